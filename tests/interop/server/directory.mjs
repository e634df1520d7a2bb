/*
 * A directory of organisations and their software, as Raidiam Connect has it: what its API says to a caller whose token
 * and certificate are in order.
 */
const PATH = /^\/organisations\/([^/?]+)\/softwarestatements$/;

// Which scopes are enough, one of them each.
const NEEDED = { GET: ['directory:website', 'directory:software'], POST: ['directory:website'] };

export function makeDirectory() {
  const statements = new Map(); // by organisation
  let throttled = { times: 0, retryAfter: '' };
  return {
    throttle: (times, retryAfter) => { throttled = { times, retryAfter }; },
    answer({ method, url, headers }, { scope = '', client_id: clientId }) {
      if (throttled.times > 0) {
        throttled.times -= 1;
        return { status: 429, said: { error: 'too_many_requests' }, headers: { 'retry-after': throttled.retryAfter } };
      }
      const [, organisation] = PATH.exec(new URL(url, 'https://directory').pathname) ?? [];
      if (organisation === undefined) return { status: 404, said: { error: 'not_found' } };
      const needed = NEEDED[method];
      if (needed === undefined) return { status: 405, said: { error: 'method_not_allowed' } };
      if (!needed.some((one) => scope.split(' ').includes(one))) {
        const challenge = `Bearer error="insufficient_scope", scope="${needed[0]}"`;
        return { status: 403, said: { error: 'insufficient_scope' }, headers: { 'www-authenticate': challenge } };
      }
      const known = statements.get(organisation) ?? [];
      const interaction = { 'x-fapi-interaction-id': headers['x-fapi-interaction-id'] ?? '' };
      if (method === 'GET') return { status: 200, said: { statements: known }, headers: interaction };
      const made = { id: known.length + 1, organisation, clientId };
      statements.set(organisation, [...known, made]);
      return { status: 201, said: made, headers: interaction };
    },
  };
}

// The page of the application: it knows who is logged in by asking, and holds no token.

const show = (id, shown) => { document.getElementById(id).hidden = !shown; };

const ask = (path, options = {}) => fetch(path, {
  ...options,
  headers: { 'Content-Type': 'application/json', 'X-Requested-By': 'app' },
});

async function look() {
  const answer = await ask('/api/me');
  show('in', answer.ok);
  show('out', answer.status === 401);
  if (answer.ok) document.getElementById('me').textContent = (await answer.json()).subject;
  else if (answer.status !== 401) fail(`the API cannot be asked (${answer.status})`);
}

async function login(provider) {
  const answer = await ask('/api/login', { method: 'POST', body: JSON.stringify({ provider }) });
  const begun = await answer.json();
  if (answer.ok) location.assign(begun.url);
  else fail(begun.error);
}

async function logout() {
  const answer = await ask('/api/logout', { method: 'POST' });
  if (answer.ok) await look();
  else fail((await answer.json()).error);
}

function fail(why) {
  document.getElementById('failed').textContent = `That did not work: ${why}.`;
  show('failed', true);
}

for (const button of document.querySelectorAll('[data-provider]')) {
  button.addEventListener('click', () => login(button.dataset.provider));
}
document.getElementById('call').addEventListener('click', look);
document.getElementById('logout').addEventListener('click', logout);

const failed = new URLSearchParams(location.search).get('failed');
if (failed) {
  fail(failed);
  history.replaceState(null, '', '/');
}
look();

// Ask Token Broker for access tokens: a client on Node's standard library, to be copied into a program.
//
//   let token = await getToken("directory");          // ask for each use: the broker keeps it fresh
//   const headers = { Authorization: `${token.token_type} ${token.access_token}` };
//   token = await getToken("directory", token.etag);  // once, when the API answered 401
//
// As a program it prints what kind of token there is, and with --print the token.

import http from "node:http";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const ANSWER_MS = 15_000; // for a whole answer; the broker waits for its server for 10 s
const LARGEST_ANSWER = 262_144; // bytes; the broker itself reads no larger ones
const LONGEST_WAIT = 10; // seconds; who is told to come back later than that fails at once

/** No token. `code` is the `error` of the broker; "consent_required" is for a person, and never retried. */
export class BrokerError extends Error {
  constructor(code, text) {
    super(code + text);
    this.code = code;
  }
}

function ask(path, name, rejected) {
  const [method, target] = rejected ? ["POST", `/v1/tokens/${name}/refresh`] : ["GET", `/v1/tokens/${name}`];
  const body = rejected && JSON.stringify({ rejected });
  const headers = { Host: "localhost", ...(body && { "Content-Type": "application/json", "Content-Length": body.length }) };
  const signal = AbortSignal.timeout(ANSWER_MS);
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath: path, path: target, method, headers, signal, agent: false }, (answer) => {
      const pieces = [];
      answer.on("error", reject).on("data", (piece) => pieces.push(piece));
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, text: Buffer.concat(pieces) }));
      if (!(Number(answer.headers["content-length"]) <= LARGEST_ANSWER)) {
        reject(new BrokerError("answer_too_large", ""));
        request.destroy();
      }
    });
    request.on("error", reject).end(body);
  });
}

/** Gives the broker's answer, with its ETag as `etag`. Throws BrokerError. */
export async function getToken(name, rejected) {
  const socket = process.env.TOKEN_BROKER_SOCKET ?? "unix:///run/token-broker/api.sock";
  if (!socket.startsWith("unix:///")) throw new BrokerError("bad_socket", ": TOKEN_BROKER_SOCKET has to be unix:///PATH");
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) throw new BrokerError("bad_name", ': names have a-z, 0-9, ".", "_" and "-"');
  for (let absent = 0, broken = 0, waited = 0; ; ) {
    let answer, body;
    try {
      answer = await ask(socket.slice("unix://".length), name, rejected);
      body = JSON.parse(answer.text);
    } catch (error) {
      if (error instanceof BrokerError) throw error;
      if (["ENOENT", "ECONNREFUSED", "EAGAIN"].includes(error.code)) {
        if (++absent === 10) throw new BrokerError("unreachable", `: nobody answers at ${socket}`);
        await sleep(100); // a broker that restarts is back within a second or so
      } else if (["ECONNRESET", "EPIPE"].includes(error.code)) {
        // It went away before it had answered: once more, and not for ever.
        if (++broken === 2) throw new BrokerError("unreachable", ": the connection broke twice before an answer");
      } else {
        throw new BrokerError("unreachable", `: ${error.code ?? error.name}`);
      }
      continue;
    }
    if (answer.status === 200) return { ...body, etag: answer.headers.etag };
    const seconds = answer.headers["retry-after"];
    const wait = /^\d+$/.test(seconds) ? Number(seconds) : 1;
    if (![429, 503].includes(answer.status) || waited === 2 || wait > LONGEST_WAIT)
      throw new BrokerError(body.error, ` (${answer.status}): ${body.hint ?? body.error_description}`);
    waited++; // not now: as long as it says
    await sleep(wait * 1000);
  }
}

// node token-broker.mjs [--print] NAME [ETAG of a rejected token]
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [name, rejected] = process.argv.slice(2).filter((word) => word !== "--print");
  try {
    const token = await getToken(name, rejected);
    console.log(`token_type=${token.token_type} expires_in=${token.expires_in}`);
    if (process.argv.includes("--print")) console.log(token.access_token);
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    console.error(`token broker: ${error.message}`);
    process.exitCode = 1;
  }
}

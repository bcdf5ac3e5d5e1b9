// The program that the pages come from, run for one file of tests: a folder, ports and sample data of its own.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_MS = 60_000;
const STOP_MS = 20_000;

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Starts `headwater dev` and waits until it is ready. Returns where it is, and how to stop it. */
export async function startService(flags = []) {
  const program = process.env.HEADWATER_PROGRAM;
  if (!program) throw new Error('HEADWATER_PROGRAM does not name the program; run `make test-browser`');
  const folder = await mkdtemp(join(tmpdir(), 'headwater-browser-'));
  const address = `127.0.0.1:${await freePort()}`;
  const given = ['dev', '--data-dir', join(folder, 'data'), '--http-addr', address, ...flags];
  if (process.env.HEADWATER_NATS_SERVER_FILE) given.push('--nats-server', process.env.HEADWATER_NATS_SERVER_FILE);
  const service = spawn(program, given, { stdio: ['ignore', 'pipe', 'pipe'], env: environment() });
  let printed = '';
  for (const stream of [service.stdout, service.stderr]) stream.on('data', (bytes) => { printed = (printed + bytes).slice(-20_000); });
  const gone = new Promise((resolve) => { service.once('exit', resolve); });
  const url = `http://${address}`;
  const until = Date.now() + START_MS;
  for (;;) {
    if (service.exitCode !== null) throw new Error(`the service ended:\n${printed}`);
    // The banner comes last: the sample data is there, and the views have read it.
    if (printed.includes('Ctrl-C stops it')) break;
    if (Date.now() > until) { service.kill('SIGKILL'); throw new Error(`the service does not get ready:\n${printed}`); }
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  const stop = async () => {
    service.kill('SIGTERM');
    const late = setTimeout(() => service.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(late);
    await rm(folder, { recursive: true, force: true });
  };
  const nats = printed.match(/nats:\/\/[\d.:]+/)[0];
  return { url, nats, stop, startReplica: (roles) => startReplica(program, nats, roles) };
}

/** Starts another replica beside it. Returns how to let it die, as a machine does. */
async function startReplica(program, nats, roles) {
  const folder = await mkdtemp(join(tmpdir(), 'headwater-replica-'));
  const given = ['serve', '--nats', nats, '--roles', roles, '--surreal', 'mem://', '--http-addr', '127.0.0.1:0', '--data-dir', folder];
  const replica = spawn(program, given, { stdio: 'ignore', env: environment() });
  const gone = new Promise((resolve) => { replica.once('exit', resolve); });
  return {
    die: async () => {
      replica.kill('SIGKILL');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What a program is given of the environment: none of its settings. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(HEADWATER_|OTEL_)/.test(name)));

/** Gives a command over HTTP, past the pages. */
export async function command(url, aggregate, id, name, body, headers = {}) {
  const response = await fetch(`${url}/commands/${aggregate}/${id}/${name}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${aggregate} ${id} ${name}: ${JSON.stringify(answer)}`);
  return { ...answer, at: response.headers.get('Headwater-Position') };
}

/** Reads a document over HTTP. */
export async function document(url, view, id, since) {
  const headers = since ? { 'Headwater-Min-Position': since } : {};
  const response = await fetch(`${url}/views/${view}/${id}`, { headers });
  return response.ok ? (await response.json()).document : null;
}

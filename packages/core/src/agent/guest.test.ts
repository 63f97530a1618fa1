/** The client against the guest's own agent, built for the host and spoken to over a socket. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AgentClient, type ExecExit, type ExecRequest } from './client.ts';
import { AgentError } from './errors.ts';

const sources = fileURLToPath(new URL('../../../../guest/agent/', import.meta.url));
const missing = () => {
  if (process.platform !== 'linux') return 'the agent is a Linux program';
  return spawnSync('cc', ['--version']).status === 0 ? false : 'cc is not installed';
};

test('the guest agent of the default guest', { skip: missing(), timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-agent-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'agent');
  const files = readdirSync(sources)
    .filter((name) => name.endsWith('.c'))
    .map((name) => join(sources, name));
  const built = spawnSync('cc', ['-O1', '-o', program, ...files], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);

  const path = join(folder, 'socket');
  const server = createServer();
  await new Promise<void>((done) => server.listen(path, done));
  t.after(() => server.close());
  const agent = spawn(program, ['-p', path], { stdio: ['ignore', 'ignore', 'inherit'] });
  t.after(() => agent.kill());
  const socket = await new Promise<Socket>((done) => server.once('connection', done));
  const client = new AgentClient({
    send: (bytes) => {
      socket.write(bytes);
      return bytes.length;
    },
    now: () => process.hrtime.bigint(),
  });
  socket.on('data', (bytes) => client.receive(bytes));
  const clock = setInterval(() => client.advance(process.hrtime.bigint()), 5);
  t.after(() => clearInterval(clock));
  client.connected(true);

  /** A request as a promise. */
  const ask = <T>(request: (done: (outcome: T | AgentError) => void) => void) =>
    new Promise<T>((resolve, reject) => {
      request((outcome) => (outcome instanceof AgentError ? reject(outcome) : resolve(outcome)));
    });
  const run = async (request: ExecRequest, act: (handle: ReturnType<AgentClient['exec']>) => void = () => {}) => {
    const output = { stdout: '', stderr: '' };
    const exit = await ask<ExecExit>((done) => {
      const decoder = new TextDecoder();
      const take = (stream: 'stdout' | 'stderr', bytes: Uint8Array) => {
        output[stream] += decoder.decode(bytes, { stream: true });
      };
      act(client.exec(request, { output: take, exit: done }));
    });
    return { ...output, ...exit };
  };

  await t.test('ping, sync, info', async () => {
    await ask<void>((done) => client.ping(done));
    await ask<void>((done) => client.sync(done));
    const info = await ask<{ commands: ReadonlySet<string> }>((done) => client.info(done));
    assert.ok(info.commands.has('braid-exec'));
  });

  await t.test('programs: output, exit codes, signals, environment, folder', async () => {
    const script = 'echo "$GREETING"; pwd; echo bad >&2; exit 3';
    const told = await run({ argv: ['sh', '-c', script], env: ['GREETING=hello'], cwd: '/' });
    assert.deepEqual(told, { stdout: 'hello\n/\n', stderr: 'bad\n', code: 3 });
    assert.deepEqual(await run({ argv: ['sh', '-c', 'kill -9 $$'] }), { stdout: '', stderr: '', signal: 9 });
    assert.equal((await run({ argv: ['sleep', '100'] }, (handle) => handle.signal(15))).signal, 15);
    await assert.rejects(run({ argv: ['/no/such/program'] }), /no such file/i);
  });

  await t.test('programs: input, whole and in pieces, more than the agent holds', async () => {
    assert.equal((await run({ argv: ['cat'], input: new TextEncoder().encode('abc') })).stdout, 'abc');
    const large = new Uint8Array(6_000_000).fill(120);
    const counted = await run({ argv: ['sh', '-c', 'sleep 0.1; wc -c'], input: 'stream' }, (handle) => {
      handle.write(large);
      handle.end();
    });
    assert.equal(counted.stdout.trim(), '6000000');
    const ignored = await run({ argv: ['true'], input: 'stream' }, (handle) => handle.write(large));
    assert.equal(ignored.code, 0);
  });

  await t.test('programs: a terminal and its size', async () => {
    const shown = await run({ argv: ['stty', 'size'], terminal: { rows: 31, cols: 99 } });
    assert.equal(shown.stdout.trim(), '31 99');
  });

  await t.test('files', async () => {
    const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i * 31);
    const file = join(folder, 'file');
    await ask<void>((done) => client.writeFile(file, bytes, done));
    assert.deepEqual(new Uint8Array(readFileSync(file)), bytes);
    assert.deepEqual(await ask<Uint8Array>((done) => client.readFile(file, done)), bytes);
    await assert.rejects(
      ask<Uint8Array>((done) => client.readFile('/no/such', done)),
      AgentError,
    );
  });

  assert.equal(client.ignored, 0);
  client.close('done');
  socket.end();
});

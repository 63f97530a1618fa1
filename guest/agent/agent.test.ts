// The guest agent, built for this machine with the compiler's sanitizers and driven over a Unix socket.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

type Message = {
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: Record<string, unknown>;
  id?: unknown;
};

const here = import.meta.dirname;
const skip =
  process.platform !== 'linux'
    ? 'the agent is a Linux program'
    : spawnSync('gcc', ['--version']).status !== 0 && 'gcc is not installed';
const seed = Number(process.env.BRAID_SEED ?? 1);

const base64 = (text: string | Uint8Array) => Buffer.from(text).toString('base64');
const bytesOf = (text: unknown) => Buffer.from(String(text), 'base64');

/** The agent, and the host's end of its port. */
class Agent {
  readonly process: ChildProcess;
  readonly #server: Server;
  readonly #socket: Socket;
  readonly #waiting: ((message: Message) => void)[] = [];
  readonly #arrived: Message[] = [];
  readonly #events: Message[] = [];
  #text = '';
  errors = '';

  private constructor(process: ChildProcess, server: Server, socket: Socket) {
    this.process = process;
    this.#server = server;
    this.#socket = socket;
    process.stderr!.on('data', (chunk) => (this.errors += chunk));
    // One byte, one character: the delimiter 0xff is not UTF-8.
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => this.#receive(String(chunk)));
    socket.on('error', () => {});
  }

  static async start(program: string, path: string): Promise<Agent> {
    const server = createServer();
    const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const child = spawn(program, ['-p', path], { stdio: ['ignore', 'ignore', 'pipe'] });
    return new Agent(child, server, await connected);
  }

  #receive(chunk: string) {
    const lines = (this.#text + chunk).split('\n');
    this.#text = lines.pop()!;
    for (const line of lines) {
      const message = JSON.parse(line.replace(/^.*\xff/s, '')) as Message;
      const next = this.#waiting.shift();
      if (next) next(message);
      else this.#arrived.push(message);
    }
  }

  send(bytes: string | Uint8Array) {
    this.#socket.write(bytes);
  }

  message(): Promise<Message> {
    const arrived = this.#arrived.shift();
    return arrived ? Promise.resolve(arrived) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  pause() {
    this.#socket.pause();
  }

  resume() {
    this.#socket.resume();
  }

  /** The answer; events on the way are kept for `event`. */
  async ask(execute: string, args: Record<string, unknown> = {}): Promise<Message> {
    this.send(`${JSON.stringify({ execute, arguments: args })}\n`);
    return this.answer();
  }

  async answer(): Promise<Message> {
    for (;;) {
      const message = await this.message();
      if (message.event === undefined) return message;
      this.#events.push(message);
    }
  }

  async must(execute: string, args: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const answer = await this.ask(execute, args);
    assert.equal(answer.error, undefined, answer.error?.desc);
    return answer.return as Record<string, unknown>;
  }

  async event(): Promise<Message> {
    return this.#events.shift() ?? (await this.message());
  }

  /** The output of a program until it ends. */
  async finish(id: unknown) {
    const output = { stdout: '', stderr: '', bytes: 0 };
    const others: Message[] = [];
    for (;;) {
      const message = await this.event();
      const data = message.data ?? {};
      if (data.id !== id) {
        others.push(message);
        continue;
      }
      if (message.event === 'braid-exec-output') {
        const bytes = bytesOf(data.data);
        output.bytes += bytes.length;
        if (output.bytes < 1 << 20) output[data.stream as 'stdout' | 'stderr'] += bytes.toString();
      } else if (message.event === 'braid-exec-exit') {
        this.#events.unshift(...others);
        return { ...output, exitcode: data.exitcode, signal: data.signal };
      }
    }
  }

  async run(argv: string[], more: Record<string, unknown> = {}) {
    const { id } = await this.must('braid-exec', { argv, ...more });
    return this.finish(id);
  }

  async stop() {
    const ended = new Promise<number | null>((resolve) => this.process.once('exit', resolve));
    this.#socket.end();
    const code = await ended;
    this.#server.close();
    assert.equal(this.errors, '');
    assert.equal(code, 0);
  }
}

describe('guest agent', { skip, timeout: 120_000 }, () => {
  let folder: string;
  let agent: Agent;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'braid-agent-'));
    const sources = readdirSync(here).filter((name) => name.endsWith('.c'));
    const flags = ['-std=gnu11', '-O1', '-g', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined'];
    const build = (out: string, files: string[]) =>
      execFileSync('gcc', [...flags, '-fno-sanitize-recover=all', '-o', join(folder, out), ...files], { cwd: here });
    build('agent', sources);
    build('parser', ['test/parser.c', 'json.c', 'buf.c']);
    agent = await Agent.start(join(folder, 'agent'), join(folder, 'port'));
    assert.equal((await agent.message()).event, 'braid-agent-ready');
  });

  after(async () => {
    await agent?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the parser survives garbage', () => {
    execFileSync(join(folder, 'parser'), ['200000', String(seed)], { stdio: 'inherit' });
  });

  test('handshake, identity and errors', async () => {
    assert.deepEqual((await agent.ask('guest-ping')).return, {});
    assert.equal((await agent.ask('guest-sync', { id: 123456789012 })).return, 123456789012);
    assert.equal((await agent.ask('nonsense')).error?.class, 'CommandNotFound');
    assert.equal((await agent.ask('guest-sync', { id: 'x' })).error?.class, 'GenericError');
    const info = await agent.must('guest-info');
    const commands = (info.supported_commands as { name: string }[]).map((command) => command.name);
    for (const name of ['guest-exec', 'guest-file-read', 'guest-shutdown', 'braid-exec', 'braid-exec-resize'])
      assert.ok(commands.includes(name), name);
    agent.send('{"execute":"guest-ping","id":{"a":[1,"\\u00e9"]}}\n');
    assert.deepEqual((await agent.answer()).return, {});
    assert.ok(BigInt(String((await agent.ask('guest-get-time')).return)) > 0n);
    assert.equal(typeof (await agent.must('guest-get-osinfo')).machine, 'string');
  });

  test('garbage is answered with errors, and a new host can start afresh', async () => {
    agent.send('{"execute":"guest-pi\n');
    assert.match((await agent.answer()).error!.desc, /not a request/);
    agent.send(Buffer.concat([Buffer.from('{"execute": ["half'), Buffer.of(0xff)]));
    agent.send('{"execute":"guest-sync-delimited","arguments":{"id":7}}\n');
    assert.equal((await agent.answer()).return, 7);

    // Random lines: each has one answer at most, so a sync after them still finds its own.
    let state = seed | 1;
    const random = (limit: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % limit;
    };
    for (let i = 0; i < 200; i++) {
      const line = Buffer.from(Array.from({ length: random(200) }, () => random(256)));
      agent.send(Buffer.concat([line, Buffer.of(10)]));
    }
    agent.send(Buffer.alloc(9 << 20, 0x5b));
    agent.send(Buffer.concat([Buffer.of(0xff), Buffer.from('{"execute":"guest-sync","arguments":{"id":8}}\n')]));
    for (;;) {
      const answer = await agent.answer();
      if (answer.return === 8) break;
      assert.ok(answer.error);
    }
  });

  test('guest-exec is polled', async () => {
    const run = async (args: Record<string, unknown>) => {
      const { pid } = await agent.must('guest-exec', args);
      for (;;) {
        const status = await agent.must('guest-exec-status', { pid });
        if (status.exited) return status;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    const both = await run({
      path: 'sh',
      arg: ['-c', 'cat; echo b >&2; exit 3'],
      'input-data': base64('in'),
      'capture-output': true,
    });
    assert.equal(both.exitcode, 3);
    assert.equal(bytesOf(both['out-data']).toString(), 'in');
    assert.equal(bytesOf(both['err-data']).toString(), 'b\n');
    const killed = await run({ path: 'sh', arg: ['-c', 'kill -9 $$'] });
    assert.deepEqual(killed, { exited: true, signal: 9 });
    const merged = await run({ path: 'sh', arg: ['-c', 'echo a; echo b >&2'], 'capture-output': 'merged' });
    assert.equal(bytesOf(merged['out-data']).toString(), 'a\nb\n');
    const large = await run({ path: 'head', arg: ['-c', '20000000', '/dev/zero'], 'capture-output': true });
    assert.equal(large['out-truncated'], true);
    assert.equal(bytesOf(large['out-data']).length, 16 << 20);
    const environment = await run({ path: '/usr/bin/env', env: ['A=1'], 'capture-output': true });
    assert.equal(bytesOf(environment['out-data']).toString(), 'A=1\n');
    assert.match((await agent.ask('guest-exec', { path: '/nonexistent' })).error!.desc, /No such file/);
    assert.ok((await agent.ask('guest-exec-status', { pid: 1 })).error);
  });

  test('braid-exec pushes output and exit', async () => {
    const plain = await agent.run(['sh', '-c', 'pwd; echo $A >&2; echo $HOME; exit 5'], {
      cwd: '/',
      env: ['A=b=c', 'HOME=/h'],
    });
    assert.equal(plain.stdout, '/\n/h\n');
    assert.equal(plain.stderr, 'b=c\n');
    assert.equal(plain.exitcode, 5);
    assert.equal((await agent.run(['sh', '-c', 'kill -15 $$'])).signal, 15);
    assert.match((await agent.ask('braid-exec', { argv: ['nonexistent'] })).error!.desc, /No such file/);
    assert.match((await agent.ask('braid-exec', { argv: ['/etc/passwd'] })).error!.desc, /Permission denied/);
    const folder = (await agent.ask('braid-exec', { argv: ['ls'], cwd: '/nonexistent' })).error!.desc;
    assert.match(folder, /cannot enter the folder \/nonexistent: No such file/);
    const many = await agent.run(['sh', '-c', 'echo $#', 'sh', ...Array<string>(20_000).fill('x')]);
    assert.equal(many.stdout, '20000\n');
    for (const argv of [[], 'ls', [1], ['a\0b'], undefined]) assert.ok((await agent.ask('braid-exec', { argv })).error);
    assert.equal((await agent.run(['cat'])).stdout, '');
  });

  test('input, its end, and its limit', async () => {
    const { id } = await agent.must('braid-exec', { argv: ['cat'], input: true });
    assert.deepEqual(await agent.must('braid-exec-input', { id, data: base64('one ') }), { queued: 0 });
    await agent.must('braid-exec-input', { id, data: base64('two'), eof: true });
    assert.equal((await agent.finish(id)).stdout, 'one two');
    assert.ok((await agent.ask('braid-exec-input', { id, data: '' })).error);

    const slow = (await agent.must('braid-exec', { argv: ['sh', '-c', 'read line; wc -c'], input: true })).id;
    const chunk = base64(Buffer.alloc(1 << 20, 97));
    assert.ok(Number((await agent.must('braid-exec-input', { id: slow, data: base64('x\n') })).queued) === 0);
    await agent.must('braid-exec-input', { id: slow, data: chunk, eof: true });
    assert.equal((await agent.finish(slow)).stdout.trim(), String(1 << 20));

    const deaf = (await agent.must('braid-exec', { argv: ['sleep', '100'], input: true })).id;
    let refused: Message = {};
    for (let i = 0; i < 6 && !refused.error; i++)
      refused = await agent.ask('braid-exec-input', { id: deaf, data: chunk });
    assert.match(refused.error!.desc, /too much input/);
    await agent.must('braid-exec-signal', { id: deaf, signal: 9 });
    assert.equal((await agent.finish(deaf)).signal, 9);
  });

  test('a terminal has a size, a session and its keys', async () => {
    const sized = await agent.run(['sh', '-c', 'tty >/dev/null && stty size'], { terminal: { rows: 7, cols: 55 } });
    assert.equal(sized.stdout, '7 55\r\n');
    const { id } = await agent.must('braid-exec', {
      argv: ['sh', '-c', 'trap "stty size; exit 4" WINCH; echo ready; while :; do sleep 0.1; done'],
      terminal: {},
    });
    await agent.event();
    await agent.must('braid-exec-resize', { id, rows: 3, cols: 9 });
    const resized = await agent.finish(id);
    assert.match(resized.stdout, /3 9/);
    assert.equal(resized.exitcode, 4);

    const interrupted = (
      await agent.must('braid-exec', { argv: ['sh', '-c', 'echo go; exec sleep 100'], terminal: {} })
    ).id;
    await agent.event();
    await agent.must('braid-exec-input', { id: interrupted, data: base64('\x03') });
    assert.equal((await agent.finish(interrupted)).signal, 2);

    const ended = (await agent.must('braid-exec', { argv: ['cat'], terminal: {} })).id;
    await agent.must('braid-exec-input', { id: ended, data: base64('line\n'), eof: true });
    assert.equal((await agent.finish(ended)).exitcode, 0);
  });

  test('a host that does not read stops the children, not the agent', async () => {
    agent.pause();
    const ids: unknown[] = [];
    for (let i = 0; i < 8; i++)
      agent.send('{"execute":"braid-exec","arguments":{"argv":["head","-c","4000000","/dev/zero"]}}\n');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const memory = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.process.pid}/status`, 'utf8'))![1]);
    assert.ok(memory < 200_000, `${memory} KiB`);
    agent.resume();
    for (let i = 0; i < 8; i++) ids.push(((await agent.answer()).return as { id: number }).id);
    for (const id of ids) {
      const result = await agent.finish(id);
      assert.equal(result.bytes, 4_000_000);
      assert.equal(result.exitcode, 0);
    }
  });

  test('a program is ended with what it has started, sessions of their own included', async (t) => {
    const running = (pid: number) => {
      try {
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
      } catch {
        return false;
      }
    };
    const { id } = await agent.must('braid-exec', { argv: ['sh', '-c', 'setsid sleep 600 & echo $!; wait'] });
    const child = Number(bytesOf((await agent.event()).data!.data));
    assert.ok(running(child));
    const { all } = await agent.must('braid-exec-kill', { id });
    assert.equal((await agent.finish(id)).signal, 9);
    if (!all) {
      process.kill(child);
      return t.skip('no control groups of version 2 that may be written here');
    }
    while (running(child)) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.match((await agent.ask('braid-exec-kill', { id })).error!.desc, /no running program/);
  });

  test('random numbers are renewed where the agent may', async () => {
    const { error } = await agent.ask('braid-reseed', { data: base64('some bytes') });
    if (process.getuid!() === 0) assert.equal(error, undefined);
    else assert.match(error!.desc, /cannot renew the key/);
    assert.match((await agent.ask('braid-reseed', { data: '?' })).error!.desc, /base64/);
  });

  test('a process left behind does not keep the program from ending', async () => {
    // It prints the number of the process that it leaves behind.
    const result = await agent.run(['sh', '-c', 'sleep 60 & echo $!']);
    process.kill(Number(result.stdout));
  });

  test('many at once', async () => {
    const ids: unknown[] = [];
    for (let i = 0; i < 60; i++)
      ids.push((await agent.must('braid-exec', { argv: ['sh', '-c', `echo ${i}; exit ${i}`] })).id);
    for (const [i, id] of ids.entries()) {
      const result = await agent.finish(id);
      assert.equal(result.stdout, `${i}\n`);
      assert.equal(result.exitcode, i);
    }
  });

  test('files', async () => {
    const path = join(folder, 'file');
    const open = (mode: string) => agent.ask('guest-file-open', { path, mode });
    const written = (await open('w+')).return as number;
    assert.deepEqual(await agent.must('guest-file-write', { handle: written, 'buf-b64': base64('hello') }), {
      count: 5,
      eof: false,
    });
    assert.equal((await agent.must('guest-file-seek', { handle: written, offset: -3, whence: 'end' })).position, 2);
    const read = await agent.must('guest-file-read', { handle: written, count: 100 });
    assert.equal(bytesOf(read['buf-b64']).toString(), 'llo');
    assert.equal((await agent.must('guest-file-read', { handle: written })).eof, true);
    await agent.must('guest-file-flush', { handle: written });
    await agent.must('guest-file-close', { handle: written });
    assert.ok((await agent.ask('guest-file-close', { handle: written })).error);
    assert.ok((await open('q')).error);
    assert.match((await agent.ask('guest-file-open', { path: '/nonexistent/x' })).error!.desc, /No such file/);
    for (const handle of [-1, 0, 999, 1064, 2 ** 40, 'x', null])
      assert.ok((await agent.ask('guest-file-read', { handle })).error);
  });

  test('an idle agent does not run', async () => {
    const ticks = () =>
      readFileSync(`/proc/${agent.process.pid}/status`, 'utf8')
        .match(/ctxt_switches:\s+\d+/g)!
        .join();
    // It may still be at work for the test before. An agent that polled would switch in every one of these spans.
    let quiet = false;
    for (let span = 0; span < 20 && !quiet; span++) {
      const earlier = ticks();
      await new Promise((resolve) => setTimeout(resolve, 300));
      quiet = ticks() === earlier;
    }
    assert.ok(quiet, 'the agent never rests');
  });
});

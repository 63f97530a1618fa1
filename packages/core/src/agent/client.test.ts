import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Done, ExecExit } from './client.ts';
import { AgentError, type AgentErrorKind } from './errors.ts';
import { type Asked, FakePeer } from './testing.ts';

const MS = 1_000_000n;

/** A callback that keeps what it is called with and insists on being called once. */
function once<T>(): Done<T> & { outcome?: T | AgentError; called: boolean } {
  const done = (outcome: T | AgentError) => {
    assert.equal(done.called, false, 'called twice');
    done.called = true;
    done.outcome = outcome;
  };
  done.called = false;
  done.outcome = undefined as T | AgentError | undefined;
  return done as Done<T> & { outcome?: T | AgentError; called: boolean };
}

function failed(done: { outcome?: unknown; called: boolean }, kind: AgentErrorKind, pattern = /./) {
  assert.ok(done.outcome instanceof AgentError, `no error: ${done.outcome}`);
  assert.equal(done.outcome.code, 'ERR_BRAID_AGENT');
  assert.equal(done.outcome.kind, kind, done.outcome.message);
  assert.match(done.outcome.message, pattern);
}

function worked(done: { outcome?: unknown; called: boolean }) {
  assert.ok(done.called, 'not called');
  assert.ok(!(done.outcome instanceof AgentError), String(done.outcome));
}

/** Handlers that keep a program's output. */
function recorder() {
  const exit = once<ExecExit>();
  const record = {
    stdout: '',
    stderr: '',
    exit,
    output: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => {
      record[stream] += new TextDecoder().decode(bytes);
    },
  };
  return record;
}

const names = (peer: FakePeer) => peer.asked.map((request) => request.execute);

test('requests wait for the agent; syncs are repeated with growing distance', () => {
  const peer = new FakePeer();
  const done = once<void>();
  peer.client.ping(done);
  assert.deepEqual(peer.requests(), []);
  peer.alive = false;
  peer.start();
  peer.pass(100n * MS);
  assert.deepEqual(names(peer), new Array(4).fill('guest-sync-delimited')); // at 0, 10, 30, 70
  assert.equal(peer.client.deadline(), 150n * MS);
  assert.equal(done.called, false);
  peer.alive = true;
  peer.pass(1000n * MS);
  worked(done);
  assert.equal(peer.client.deadline(), undefined);
  assert.deepEqual(names(peer).slice(-3), ['guest-sync-delimited', 'guest-info', 'guest-ping']);
});

test('an answer to any of the repeated syncs will do, and the rest of them do no harm', () => {
  const peer = new FakePeer();
  peer.client.connected(true);
  const [first] = peer.requests();
  peer.now = 10n * MS;
  peer.client.advance(peer.now);
  const [second] = peer.requests();
  peer.raw('garbage from before {"return": 1}\n{"return": 3}\n');
  assert.equal(peer.client.ready, false);
  peer.answer(first!);
  assert.equal(peer.client.ready, true);
  const done = once<void>();
  peer.client.ping(done);
  peer.answer(second!);
  peer.settle();
  worked(done);
});

test('braid-agent-ready asks again at once', () => {
  const peer = new FakePeer();
  peer.client.connected(true);
  peer.requests();
  peer.event('braid-agent-ready', { version: '1' });
  assert.equal(peer.requests().length, 1);
});

test('ping, sync, info, set-time', () => {
  const peer = new FakePeer().start();
  const ping = once<void>();
  const sync = once<void>();
  const info = once<unknown>();
  const time = once<void>();
  peer.answers['guest-set-time'] = () => ({});
  peer.client.ping(ping);
  peer.client.sync(sync);
  peer.client.info(info);
  peer.client.setTime(1_234_567_890_123_456_789n, time);
  assert.equal(peer.asked.filter((request) => request.execute === 'guest-sync').length, 0);
  peer.settle();
  for (const done of [ping, sync, info, time]) worked(done);
  const { version, commands } = info.outcome as { version: string; commands: Set<string> };
  assert.equal(version, '1.2.3');
  assert.ok(commands.has('braid-exec'));
});

test('integers keep all their digits', () => {
  let sent = '';
  const peer = new FakePeer().start();
  const { client } = peer;
  client.setTime(1_234_567_890_123_456_789n, () => {});
  const { parse } = JSON;
  JSON.parse = (text: string) => {
    sent += text;
    return parse(text);
  };
  try {
    peer.requests();
  } finally {
    JSON.parse = parse;
  }
  assert.match(sent, /"time":1234567890123456789[,}]/);
});

test('a refusal carries its reason, made harmless', () => {
  const peer = new FakePeer().start();
  peer.answers['guest-ping'] = () => new Error('no\x1b[2J\nway');
  const done = once<void>();
  peer.client.ping(done);
  peer.settle();
  failed(done, 'refused', /guest agent, guest-ping: no\\x1b\[2J\\nway$/);
});

test('answers that make no sense fail the request and begin anew', () => {
  const answers = [
    'nonsense',
    '[]',
    '{}',
    '{"return": {}, "error": {}}',
    '{"return": {}, "id": 999999}',
    '{"return": {}, "id": "x"}',
    `${'['.repeat(100)}`,
    `{"return": ${'['.repeat(50)}${']'.repeat(50)}}`,
    'x'.repeat(2 ** 20 + 1),
  ];
  for (const answer of answers) {
    const peer = new FakePeer().start();
    const done = once<void>();
    peer.client.ping(done);
    peer.requests();
    peer.raw(`${answer}\n`);
    failed(done, 'protocol');
    const again = once<void>();
    peer.client.ping(again);
    peer.settle();
    worked(again);
  }
});

test('a line without end is thrown away as it comes', () => {
  const peer = new FakePeer().start();
  for (let i = 0; i < 100; i++) peer.raw('x'.repeat(100_000));
  assert.equal(peer.client.ignored, 1);
  peer.raw('\n');
  const done = once<void>();
  peer.client.ping(done);
  peer.settle();
  worked(done);
});

test('late answers are not taken for others', () => {
  const peer = new FakePeer().start();
  const first = once<void>();
  peer.client.ping(first, { timeout: 5n * MS });
  const [request] = peer.requests();
  assert.equal(peer.client.deadline(), 5n * MS);
  peer.now = 5n * MS;
  peer.client.advance(peer.now);
  failed(first, 'timeout');
  const second = once<void>();
  peer.answers['guest-ping'] = () => new Error('second');
  peer.client.ping(second);
  peer.say({ return: {}, id: request!.id });
  peer.say({ return: {} });
  peer.settle();
  failed(second, 'refused', /second/);
});

test('requests time out while they wait', () => {
  const peer = new FakePeer();
  const done = once<void>();
  peer.client.ping(done, { timeout: MS });
  peer.pass(MS);
  failed(done, 'timeout');
});

test('a port that takes a byte at a time', () => {
  const peer = new FakePeer();
  peer.room = 0;
  const done = once<void>();
  peer.client.ping(done);
  peer.client.connected(true);
  for (let i = 0; i < 2000 && !done.called; i++) {
    peer.room = 1;
    peer.client.pump();
    peer.settle();
  }
  worked(done);
  assert.deepEqual(names(peer), ['guest-sync-delimited', 'guest-info', 'guest-ping']);
});

test('answers split at every byte', () => {
  const peer = new FakePeer().start();
  const done = once<void>();
  peer.client.ping(done);
  const [request] = peer.requests();
  for (const character of `{"return": {}, "id": ${request!.id}}\r\n`) peer.raw(character);
  worked(done);
});

test('the agent goes away', () => {
  const peer = new FakePeer().start();
  peer.answers['braid-exec'] = () => ({ id: 7 });
  const program = recorder();
  peer.client.exec({ argv: ['a'] }, program);
  peer.settle();
  const done = once<void>();
  const waiting = once<void>();
  peer.client.ping(done);
  peer.client.ping(waiting);
  peer.requests();
  peer.client.connected(false);
  failed(done, 'gone');
  failed(program.exit, 'gone');
  assert.equal(waiting.called, false);
  peer.start();
  worked(waiting);
  const last = once<void>();
  peer.client.ping(last);
  peer.client.close('the machine is over');
  failed(last, 'gone', /the machine is over/);
});

test('an agent that is started anew has forgotten everything', () => {
  const peer = new FakePeer().start();
  peer.answers['braid-exec'] = () => ({ id: 7 });
  const program = recorder();
  peer.client.exec({ argv: ['a'] }, program);
  peer.settle();
  peer.event('braid-agent-ready', { version: '1' });
  failed(program.exit, 'gone', /started anew/);
  peer.settle();
  assert.equal(peer.client.ready, true);
});

test('exec: pushed output and exit', () => {
  const peer = new FakePeer().start();
  peer.answers['braid-exec'] = () => ({ id: 7 });
  const program = recorder();
  const request = { argv: ['ls', '-l'], env: ['A=1'], cwd: '/tmp' };
  peer.client.exec(request, program);
  peer.settle();
  assert.deepEqual(peer.asked.at(-1)!.arguments, { ...request, input: false });
  const output = (id: number, stream: string, text: string) => {
    peer.event('braid-exec-output', { id, stream, data: Buffer.from(text).toString('base64') });
  };
  output(7, 'stdout', 'one');
  output(7, 'stderr', 'two');
  output(8, 'stdout', 'of somebody else');
  output(7, 'stdout', 'three');
  peer.event('braid-exec-exit', { id: 8, exitcode: 1 });
  assert.equal(program.exit.called, false);
  peer.event('braid-exec-exit', { id: 7, exitcode: 3 });
  assert.deepEqual(program.exit.outcome, { code: 3 });
  output(7, 'stdout', 'late');
  peer.event('braid-exec-exit', { id: 7, exitcode: 4 });
  assert.equal(program.stdout, 'onethree');
  assert.equal(program.stderr, 'two');
  assert.equal(peer.client.ignored, 4);
});

test('exec: ended by a signal, refused, or with nonsense', () => {
  const peer = new FakePeer().start();
  let id = 0;
  peer.answers['braid-exec'] = () => ({ id: ++id });
  const end = (...events: [string, object][]) => {
    const program = recorder();
    peer.client.exec({ argv: ['a'] }, program);
    peer.settle();
    for (const [name, data] of events) peer.event(name, { id, ...data });
    return program.exit;
  };
  assert.deepEqual(end(['braid-exec-exit', { signal: 9 }]).outcome, { signal: 9 });
  failed(end(['braid-exec-exit', { signal: 9, exitcode: 1 }]), 'protocol');
  failed(end(['braid-exec-exit', { exitcode: '0' }]), 'protocol');
  failed(end(['braid-exec-output', { stream: 'stdout', data: '!' }]), 'protocol');
  failed(end(['braid-exec-output', { stream: 'stdin', data: '' }]), 'protocol');
  peer.answers['braid-exec'] = () => new Error('cannot execute a');
  failed(end(), 'refused', /cannot execute a/);
  for (const answer of [{}, { id: -1 }, { id: 1.5 }, { id: '7' }, 7, null, []]) {
    peer.answers['braid-exec'] = () => answer;
    const program = recorder();
    peer.client.exec({ argv: ['a'] }, program);
    peer.settle();
    if (answer === null)
      failed(program.exit, 'refused'); // the fake has no answer then
    else failed(program.exit, 'protocol');
  }
});

test('exec: requests that are wrong are told at once', () => {
  const peer = new FakePeer();
  for (const request of [
    { argv: [] },
    { argv: [''] },
    { argv: ['a\0'] },
    { argv: ['a'], env: ['A'] },
    { argv: ['a'], terminal: { rows: 0, cols: 80 } },
  ]) {
    const program = recorder();
    peer.client.exec(request, program);
    failed(program.exit, 'request');
  }
});

test('exec: input in pieces, held back while the program does not read, then its end', () => {
  const peer = new FakePeer().start();
  let taken = 0;
  let eof = false;
  let queued = 0;
  peer.answers['braid-exec'] = () => ({ id: 7 });
  peer.answers['braid-exec-input'] = ({ arguments: { data, eof: last } }) => {
    taken += Buffer.from(data as string, 'base64').length;
    eof = last as boolean;
    return { queued };
  };
  const program = recorder();
  const handle = peer.client.exec({ argv: ['cat'], input: 'stream' }, program);
  const written = once<void>();
  const ended = once<void>();
  handle.write(new Uint8Array(200_000), written);
  handle.end(ended);
  queued = 300_000;
  peer.settle();
  assert.ok(taken > 0 && taken < 100_000);
  assert.equal(written.called, false);
  queued = 0;
  peer.event('braid-exec-input-drained', { id: 7 });
  peer.settle();
  assert.equal(taken, 200_000);
  assert.equal(eof, true);
  worked(written);
  worked(ended);
  peer.event('braid-exec-exit', { id: 7, exitcode: 0 });
  const late = once<void>();
  handle.write(new Uint8Array(1), late);
  failed(late, 'gone');
});

test('exec: input given whole; a program that reads no more', () => {
  const peer = new FakePeer().start();
  const seen: unknown[] = [];
  peer.answers['braid-exec'] = () => ({ id: 7 });
  peer.answers['braid-exec-input'] = ({ arguments: { data, eof } }) => {
    seen.push([data, eof]);
    return {};
  };
  peer.client.exec({ argv: ['cat'], input: Uint8Array.of(97) }, recorder());
  peer.settle();
  assert.deepEqual(seen, [
    ['YQ==', false],
    ['', true],
  ]);
  peer.event('braid-exec-exit', { id: 7, exitcode: 0 });

  peer.answers['braid-exec-input'] = () => new Error('closed');
  const program = recorder();
  const handle = peer.client.exec({ argv: ['true'], input: 'stream' }, program);
  const first = once<void>();
  const second = once<void>();
  handle.write(Uint8Array.of(1), first);
  handle.write(Uint8Array.of(2), second);
  peer.settle();
  failed(first, 'gone', /closed/);
  failed(second, 'gone');
  peer.event('braid-exec-exit', { id: 7, exitcode: 0 });
  assert.deepEqual(program.exit.outcome, { code: 0 });
});

test('exec: signals and sizes, also before the start', () => {
  const peer = new FakePeer();
  peer.answers['braid-exec'] = () => ({ id: 7 });
  peer.answers['braid-exec-signal'] = () => ({});
  peer.answers['braid-exec-resize'] = () => ({});
  const handle = peer.client.exec({ argv: ['sh'], terminal: { rows: 24, cols: 80 } }, recorder());
  const signal = once<void>();
  const resize = once<void>();
  handle.signal(2, signal);
  handle.resize(50, 100, resize);
  peer.start();
  worked(signal);
  worked(resize);
  assert.deepEqual(
    peer.asked.slice(-2).map((request) => request.arguments),
    [
      { id: 7, signal: 2 },
      { id: 7, rows: 50, cols: 100 },
    ],
  );
});

test('exec: a program is ended with all that it has started, as far as the agent can', () => {
  const end = (kind: 'braid' | 'stock', answers: FakePeer['answers']) => {
    const peer = new FakePeer(kind);
    Object.assign(peer.answers, answers);
    const handle = peer.client.exec({ argv: ['sh'] }, recorder());
    const done = once<void>();
    handle.kill(done);
    peer.start();
    peer.pass(100n * MS);
    return { peer, done };
  };
  const started = { 'braid-exec': () => ({ id: 7 }), 'braid-exec-signal': () => ({}) };
  const all = end('braid', { ...started, 'braid-exec-kill': () => ({ all: true }) });
  worked(all.done);
  assert.deepEqual(all.peer.asked.at(-1)!.arguments, { id: 7 });
  // No control groups in the guest; an agent from before the command; a stock one.
  failed(
    end('braid', { ...started, 'braid-exec-kill': () => ({ all: false }) }).done,
    'unsupported',
    /left the program/,
  );
  const older = end('braid', started);
  failed(older.done, 'unsupported', /left the program/);
  assert.deepEqual(older.peer.asked.at(-1)!.arguments, { id: 7, signal: 9 });
  const killed: unknown[] = [];
  const stock = end('stock', {
    'guest-exec': ({ arguments: { arg } }) => {
      killed.push(arg);
      return { pid: 42 + killed.length };
    },
    'guest-exec-status': ({ arguments: { pid } }) => (pid === 43 ? { exited: false } : { exited: true, exitcode: 0 }),
  });
  failed(stock.done, 'unsupported', /left the program/);
  assert.deepEqual(killed.at(-1), ['-c', 'kill -"$0" "$1"', '9', '43']);
  // A program that the agent does not know any more is no reason to signal one that has its number.
  const gone = end('braid', { ...started, 'braid-exec-kill': () => new Error('no running program has this id') });
  failed(gone.done, 'refused', /no running program/);
  assert.equal(gone.peer.asked.at(-1)!.execute, 'braid-exec-kill');
});

test('exec with a stock agent: polls spaced by guest time, output at the end', () => {
  const peer = new FakePeer('stock').start();
  const polls: bigint[] = [];
  peer.answers['guest-exec'] = () => ({ pid: 42 });
  peer.answers['guest-exec-status'] = () => {
    polls.push(peer.now / MS);
    if (polls.length < 7) return { exited: false };
    return { exited: true, exitcode: 2, 'out-data': 'YQ==', 'err-data': 'Yg==', 'out-truncated': true };
  };
  const program = recorder();
  peer.client.exec({ argv: ['ls', '-l'], env: ['A=1'], cwd: '/tmp', input: Uint8Array.of(97) }, program);
  peer.pass(1000n * MS);
  assert.deepEqual(polls, [10n, 30n, 70n, 150n, 310n, 510n, 710n]);
  assert.deepEqual(program.exit.outcome, { code: 2, truncated: true });
  assert.equal(program.stdout + program.stderr, 'ab');
  assert.deepEqual(peer.asked.find((request) => request.execute === 'guest-exec')!.arguments, {
    path: 'env',
    arg: ['A=1', 'sh', '-c', 'cd -- "$0" && exec "$@"', '/tmp', 'ls', '-l'],
    'input-data': 'YQ==',
    'capture-output': true,
  });
  assert.equal(peer.client.deadline(), undefined);
});

test('exec with a stock agent: signals through another program; what cannot be is said', () => {
  const peer = new FakePeer('stock').start();
  let pid = 41;
  let over = false;
  peer.answers['guest-exec'] = ({ arguments: { arg } }) => {
    if (JSON.stringify(arg) === '["-c","kill -\\"$0\\" \\"$1\\"","15","42"]') over = true;
    return { pid: ++pid };
  };
  peer.answers['guest-exec-status'] = ({ arguments: { pid } }) => {
    if (pid === 42) return over ? { exited: true, signal: 15 } : { exited: false };
    return { exited: true, exitcode: 0 };
  };
  const program = recorder();
  const handle = peer.client.exec({ argv: ['sleep', '9'] }, program);
  const signal = once<void>();
  handle.signal(15, signal);
  const resize = once<void>();
  handle.resize(1, 1, resize);
  peer.pass(1000n * MS);
  worked(signal);
  failed(resize, 'unsupported');
  assert.deepEqual(program.exit.outcome, { signal: 15 });
  for (const more of [{ input: 'stream' as const }, { terminal: { rows: 24, cols: 80 } }]) {
    const refused = recorder();
    peer.client.exec({ argv: ['sh'], ...more }, refused);
    failed(refused.exit, 'unsupported');
  }
});

test('exec with a stock agent: nonsense', () => {
  for (const status of [{}, { exited: 1 }, { exited: true }, { exited: true, exitcode: 0, 'out-data': '!' }, 3]) {
    const peer = new FakePeer('stock').start();
    peer.answers['guest-exec'] = () => ({ pid: 42 });
    peer.answers['guest-exec-status'] = () => status;
    const program = recorder();
    peer.client.exec({ argv: ['a'] }, program);
    peer.pass(100n * MS);
    failed(program.exit, 'protocol');
    assert.equal(program.stdout, '');
  }
});

/** A guest with files. */
function withFiles(peer: FakePeer, files: Record<string, Uint8Array>) {
  const open = new Map<number, { path: string; at: number }>();
  peer.answers['guest-file-open'] = ({ arguments: { path, mode } }) => {
    if (mode === 'w') files[path as string] = new Uint8Array(0);
    if (!((path as string) in files)) return new Error('no such file');
    open.set(1000 + open.size, { path: path as string, at: 0 });
    return 999 + open.size;
  };
  peer.answers['guest-file-read'] = ({ arguments: { handle, count } }) => {
    const file = open.get(handle as number)!;
    const part = files[file.path]!.subarray(file.at, file.at + (count as number));
    file.at += part.length;
    return { count: part.length, 'buf-b64': Buffer.from(part).toString('base64'), eof: part.length === 0 };
  };
  peer.answers['guest-file-write'] = ({ arguments: { handle, 'buf-b64': data } }) => {
    const { path } = open.get(handle as number)!;
    const part = Buffer.from(data as string, 'base64').subarray(0, 50_000); // short writes are allowed
    files[path] = Buffer.concat([files[path]!, part]);
    return { count: part.length, eof: false };
  };
  peer.answers['guest-file-close'] = ({ arguments: { handle } }) => {
    return open.delete(handle as number) ? {} : new Error('not open');
  };
  return open;
}

test('files are written and read in pieces, and closed', () => {
  const peer = new FakePeer().start();
  const open = withFiles(peer, {});
  const content = Uint8Array.from({ length: 150_000 }, (_, i) => i * 7);
  const written = once<void>();
  peer.client.writeFile('/a', content, written);
  const read = once<Uint8Array>();
  peer.client.readFile('/a', read);
  const empty = once<void>();
  peer.client.writeFile('/b', new Uint8Array(0), empty);
  const nothing = once<Uint8Array>();
  peer.client.readFile('/b', nothing);
  peer.settle();
  worked(written);
  worked(empty);
  // Both ran at the same time, piece by piece: what was read is what was there.
  assert.ok(read.outcome instanceof Uint8Array);
  const again = once<Uint8Array>();
  peer.client.readFile('/a', again);
  peer.settle();
  assert.deepEqual(again.outcome, content);
  assert.deepEqual(nothing.outcome, new Uint8Array(0));
  assert.equal(open.size, 0);
});

test('files: not there, too large, nonsense', () => {
  const peer = new FakePeer().start();
  const open = withFiles(peer, { '/large': new Uint8Array(200_000) });
  const missing = once<Uint8Array>();
  peer.client.readFile('/missing', missing);
  const large = once<Uint8Array>();
  peer.client.readFile('/large', large, { limit: 100_000 });
  const zero = once<Uint8Array>();
  peer.client.readFile('/a\0b', zero);
  peer.settle();
  failed(missing, 'refused', /no such file/);
  failed(large, 'limit');
  failed(zero, 'request');
  for (const answer of [{}, { count: 0, 'buf-b64': '', eof: false }, { count: 2, 'buf-b64': 'YQ==', eof: false }, 7]) {
    peer.answers['guest-file-read'] = () => answer;
    const done = once<Uint8Array>();
    peer.client.readFile('/large', done);
    peer.settle();
    failed(done, 'protocol');
  }
  for (const count of [0, -1, 4, 1.5, '3']) {
    peer.answers['guest-file-write'] = () => ({ count });
    const done = once<void>();
    peer.client.writeFile('/w', new Uint8Array(3), done);
    peer.settle();
    failed(done, 'protocol');
  }
  assert.equal(open.size, 0);
});

test('files that are busy are asked again after a while, others meanwhile at once', () => {
  const peer = new FakePeer().start();
  const files: Record<string, Uint8Array> = { '/log': Uint8Array.of(1, 2, 3) };
  const open = withFiles(peer, files);
  const { 'guest-file-read': read, 'guest-file-write': write } = peer.answers;
  let busy = 0;
  const again = (answer: (request: Asked) => unknown) => (request: Asked) =>
    busy-- > 0 ? new Error('cannot: Resource temporarily unavailable') : answer(request);
  peer.answers['guest-file-read'] = again(read!);
  peer.answers['guest-file-write'] = again(write!);

  busy = 5;
  const written = once<void>();
  peer.client.writeFile('/pipe', Uint8Array.of(4, 5), written);
  peer.settle();
  assert.equal(written.called, false);
  const ping = once<void>();
  peer.client.ping(ping);
  peer.settle();
  worked(ping);
  peer.pass(100n * MS);
  worked(written);
  assert.deepEqual(files['/pipe'], Buffer.from([4, 5]));

  // A log has no end: it is read as far as it goes.
  const log = once<Uint8Array>();
  peer.client.readFile('/log', log);
  peer.settle();
  assert.deepEqual(log.outcome, Uint8Array.of(1, 2, 3));
  peer.answers['guest-file-read'] = (request) => {
    const answer = read!(request) as { eof: boolean };
    return answer.eof ? new Error('failed: Operation would block') : answer;
  };
  const endless = once<Uint8Array>();
  peer.client.readFile('/log', endless);
  peer.pass(900n * MS);
  assert.equal(endless.called, false);
  peer.pass(300n * MS);
  assert.deepEqual(endless.outcome, Uint8Array.of(1, 2, 3));

  // The other end of a pipe that takes nothing for ever.
  busy = Number.POSITIVE_INFINITY;
  const stuck = once<void>();
  peer.client.writeFile('/pipe', Uint8Array.of(4), stuck);
  peer.pass(9_000n * MS);
  assert.equal(stuck.called, false);
  peer.pass(2_000n * MS);
  failed(stuck, 'refused', /temporarily unavailable/);
  assert.equal(open.size, 0);
});

test('shutdown: silence or a closed port is success, a refusal is not', () => {
  const silent = new FakePeer().start();
  const quiet = once<void>();
  silent.client.shutdown('powerdown', quiet);
  assert.deepEqual(silent.requests().at(-1)!.arguments, { mode: 'powerdown' });
  silent.pass(3000n * MS);
  worked(quiet);
  const next = once<void>();
  silent.client.ping(next);
  silent.settle();
  worked(next);

  const closing = new FakePeer().start();
  const closed = once<void>();
  closing.client.shutdown('reboot', closed);
  closing.requests();
  closing.client.connected(false);
  worked(closed);

  const refusing = new FakePeer().start();
  refusing.answers['guest-shutdown'] = () => new Error('not now');
  const refused = once<void>();
  refusing.client.shutdown('halt', refused);
  refusing.settle();
  failed(refused, 'refused', /not now/);
});

test('what is sent depends on what was given and on nothing else', () => {
  const run = () => {
    const peer = new FakePeer('stock').start();
    peer.answers['guest-exec'] = () => ({ pid: 1 });
    peer.answers['guest-exec-status'] = () =>
      peer.now < 100n * MS ? { exited: false } : { exited: true, exitcode: 0 };
    peer.client.exec({ argv: ['a'] }, recorder());
    peer.client.ping(() => {});
    peer.pass(1000n * MS);
    return peer.asked;
  };
  assert.deepEqual(run(), run());
});

test('a line of more values than any answer has is refused before it is parsed', () => {
  for (const values of ['{},', '0,', '"":0,']) {
    const peer = new FakePeer().start();
    const done = once<void>();
    peer.client.ping(done);
    peer.requests();
    peer.raw(`{"return": [${values.repeat(100_000)}0]}\n`);
    failed(done, 'protocol');
  }
});

test('of a flood some lines are taken at a time, and what is lost of it ends the request under way', () => {
  const peer = new FakePeer().start();
  const done = once<void>();
  peer.client.ping(done);
  peer.requests();
  const lines = new TextEncoder().encode('{"event":"x"}\n'.repeat(1000));
  assert.deepEqual(peer.client.receive(lines, 10), { taken: 140, lines: 10 });
  assert.deepEqual(peer.client.receive(lines.subarray(140)), { taken: lines.length - 140, lines: 990 });
  peer.client.flooded();
  failed(done, 'protocol', /more at once/);
  peer.raw('the rest of the lost line\n');
  const again = once<void>();
  peer.client.ping(again);
  peer.settle();
  worked(again);
});

test('a program that was being started when another client took over is known by its name', () => {
  const parent = new FakePeer().start();
  const first = recorder();
  parent.client.exec({ argv: ['work'] }, { ...first, key: '7' });
  parent.requests();
  const state = parent.client.save();
  assert.deepEqual(state.programs.starting, { key: '7', streams: false });

  // A clone goes on, and hears the answer; so does a client to which the clone's state comes before it.
  const clone = new FakePeer();
  const heard = recorder();
  clone.client.restore(state, (key) => ({ ...heard, key: `^${key}` }));
  const adopted = recorder();
  parent.client.restore(clone.client.save(), () => ({ ...adopted, key: '7' }));
  assert.equal(first.exit.outcome, undefined);
  for (const [peer, program] of [
    [clone, heard],
    [parent, adopted],
  ] as const) {
    peer.say({ return: { id: 42 }, id: state.connection.current!.id });
    peer.event('braid-exec-exit', { id: 42, exitcode: 3 });
    assert.deepEqual(program.exit.outcome, { code: 3 });
  }
});

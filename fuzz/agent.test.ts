/** A hostile guest agent: whatever it sends, each request ends at most once, with a checked value or an `AgentError`. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../packages/core/src/agent/errors.ts';
import { type Asked, FakePeer } from '../packages/core/src/agent/testing.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 1000);
const SECOND = 1_000_000_000n;

/** Requests of every kind; returns how often each has ended. */
function requests(peer: FakePeer): number[] {
  const ends: number[] = [];
  const done = (check: (value: unknown) => boolean) => {
    const index = ends.push(0) - 1;
    return (outcome: unknown) => {
      ends[index]!++;
      assert.ok(outcome instanceof AgentError || check(outcome), `unchecked: ${JSON.stringify(outcome)}`);
      if (outcome instanceof AgentError) assert.doesNotMatch(outcome.message, /[\x00-\x1f\x7f-\x9f]/);
    };
  };
  const nothing = (value: unknown) => value === undefined;
  const { client } = peer;
  const timeout = { timeout: 30n * SECOND };
  client.ping(done(nothing), timeout);
  client.sync(done(nothing), timeout);
  client.info(
    done((value) => (value as { commands: unknown }).commands instanceof Set),
    timeout,
  );
  client.readFile(
    '/a',
    done((value) => value instanceof Uint8Array),
    timeout,
  );
  client.writeFile('/a', new Uint8Array(100), done(nothing), timeout);
  client.setTime(5n, done(nothing), timeout);
  const exit = done((value) => {
    const { code, signal } = value as { code?: unknown; signal?: unknown };
    return Number.isInteger(code) !== Number.isInteger(signal);
  });
  const output = (stream: string, bytes: Uint8Array) => {
    assert.ok(stream === 'stdout' || stream === 'stderr');
    assert.ok(bytes instanceof Uint8Array);
  };
  const handle = client.exec({ argv: ['a'], input: 'stream' }, { output, exit }, timeout);
  handle.write(new Uint8Array(10), done(nothing));
  handle.signal(2, done(nothing));
  client.exec({ argv: ['b'] }, { output, exit: done(() => true) }, timeout);
  client.shutdown('halt', done(nothing), timeout);
  return ends;
}

/** Ends a run: lets time pass, closes, and checks that everything has ended exactly once. */
function finish(peer: FakePeer, ends: readonly number[]): void {
  peer.pass(100n * SECOND);
  peer.client.close('the end');
  assert.deepEqual(
    [...ends],
    ends.map(() => 1),
  );
  assert.equal(peer.client.deadline(), undefined);
}

test('random bytes, in pieces, at random times', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .constantFrom('\n', '\xff', '{"return":', '{}}', '{"event":"braid-agent-ready"}\n', '{"error":{}}\n')
      .map((text) => Uint8Array.from(text, (character) => character.charCodeAt(0))),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(piece, fc.nat(50)), { maxLength: 30 }), (pieces) => {
      const peer = new FakePeer();
      const ends = requests(peer);
      peer.alive = false;
      peer.client.connected(true);
      for (const [bytes, ms] of pieces) {
        peer.client.receive(bytes);
        peer.pass(BigInt(ms) * 1_000_000n);
      }
      finish(peer, ends);
    }),
    { numRuns: RUNS },
  );
});

/** Right answers for what `requests` asks. */
function answer(request: Asked): unknown {
  switch (request.execute) {
    case 'guest-file-open':
      return 1000;
    case 'guest-file-read':
      return { count: 0, 'buf-b64': '', eof: true };
    case 'guest-file-write':
      return { count: 100, eof: false };
    case 'braid-exec':
    case 'guest-exec':
      return { id: 7, pid: 7 };
    case 'guest-exec-status':
      return { exited: true, exitcode: 0, 'out-data': 'YQ==' };
    default:
      return {};
  }
}

test('right answers, mutated', () => {
  const junk = fc.oneof(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(7, -1, 2 ** 53, 'YQ==', '', true, null, [], {}));
  /** What is done to one answer. */
  const twist = fc.oneof(
    { weight: 6, arbitrary: fc.constant({ kind: 'right' as const }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('value' as const), value: junk }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('members' as const), name: fc.nat(5), value: junk }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('bytes' as const), at: fc.nat(60), byte: fc.nat(255) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), at: fc.nat(60) }) },
    {
      weight: 1,
      arbitrary: fc.constantFrom({ kind: 'twice' as const }, { kind: 'silent' as const }, { kind: 'close' as const }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('event' as const),
        event: fc.constantFrom(
          'braid-exec-output',
          'braid-exec-exit',
          'braid-exec-input-drained',
          'braid-agent-ready',
          'x',
        ),
        data: fc.oneof(
          fc.record({
            id: fc.constant(7),
            stream: fc.constantFrom('stdout', 'x'),
            data: fc.constantFrom('YQ==', '!', 3),
          }),
          fc.record({ id: fc.constant(7), exitcode: fc.constantFrom(0, -1, 'x') }),
          fc.record({ id: fc.constant(7), signal: fc.constantFrom(9, 0) }),
          junk,
        ),
      }),
    },
  );
  fc.assert(
    fc.property(
      fc.constantFrom('braid' as const, 'stock' as const),
      fc.array(twist, { maxLength: 60 }),
      (kind, twists) => {
        const peer = new FakePeer(kind);
        const ends = requests(peer);
        const queue = twists.slice();
        const right = peer.answer.bind(peer);
        for (const name of [
          'guest-file-open',
          'guest-file-read',
          'guest-file-write',
          'guest-file-close',
          'guest-set-time',
        ].concat([
          'braid-exec',
          'braid-exec-input',
          'braid-exec-signal',
          'guest-exec',
          'guest-exec-status',
          'guest-shutdown',
        ])) {
          peer.answers[name] = answer;
        }
        peer.answer = (request) => {
          const what = queue.shift() ?? { kind: 'right' as const };
          const line = JSON.stringify({ return: answer(request), id: request.id });
          switch (what.kind) {
            case 'right':
              return right(request);
            case 'twice':
              right(request);
              return right(request);
            case 'silent':
              return;
            case 'close':
              peer.client.connected(false);
              return peer.client.connected(true);
            case 'value':
              return peer.say({ return: what.value, id: request.id });
            case 'members': {
              const value = answer(request) as Record<string, unknown>;
              if (typeof value !== 'object') return peer.say({ return: what.value });
              const name = Object.keys(value)[what.name];
              return peer.say({ return: name === undefined ? value : { ...value, [name]: what.value } });
            }
            case 'bytes':
              return peer.raw(`${line.slice(0, what.at)}${String.fromCharCode(what.byte)}${line.slice(what.at + 1)}\n`);
            case 'cut':
              return peer.raw(line.slice(0, what.at));
            case 'event':
              peer.event(what.event, what.data);
              return right(request);
          }
        };
        peer.client.connected(true);
        finish(peer, ends);
      },
    ),
    { numRuns: RUNS },
  );
});

test('callbacks that make requests, and a client that is closed from within one', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('ping', 'exec', 'close', 'open'), { maxLength: 12 }), (actions) => {
      const peer = new FakePeer();
      peer.answers['braid-exec'] = () => new Error('no');
      const queue = actions.slice();
      const act = (): void => {
        const action = queue.shift();
        if (action === 'ping') peer.client.ping(act);
        else if (action === 'exec') peer.client.exec({ argv: ['a'] }, { output: () => {}, exit: act });
        else if (action === 'close') {
          peer.client.connected(false);
          act();
        } else if (action === 'open') {
          peer.client.connected(true);
          act();
        }
      };
      peer.client.connected(true);
      act();
      for (let i = 0; i <= actions.length; i++) {
        peer.pass(SECOND);
        peer.client.connected(true);
      }
      assert.deepEqual(queue, []);
    }),
    { numRuns: RUNS },
  );
});

/** The wait detector on logs whose waits are labelled, and on any log at all. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EventLog, type InputEvent, type LoggedEvent } from '../machine/log.ts';
import { Random } from '../testing/random.ts';
import { type Channel, detectWaits, promptOf, type TimedOutput, WaitDetector, type WaitProposal } from './waits.ts';

const seed = Number(process.env.BRAID_SEED ?? 1) >>> 0;
const MS = 1_000_000n;

/** Somebody at a terminal, and what the log has of it. */
class Session {
  readonly log = new EventLog();
  readonly output: TimedOutput[] = [];
  time = 0n;

  later(milliseconds: number): this {
    this.time += BigInt(Math.round(milliseconds * 1000)) * 1000n;
    return this;
  }

  event(event: InputEvent): this {
    this.log.append({ round: this.time / 1000n, hart: 0, step: 0 }, this.time, event);
    return this;
  }

  say(text: string, channel: Channel = 'console'): this {
    this.output.push({ time: this.time, channel, bytes: new TextEncoder().encode(text) });
    return this;
  }

  send(text: string, channel: Channel = 'console'): this {
    const bytes = new TextEncoder().encode(text);
    return this.event(channel === 'console' ? { kind: 'console', bytes } : { kind: 'port', port: channel, bytes });
  }

  /** Each key an event, and an echo unless it is hidden. */
  type(text: string, echo = true): this {
    for (const key of text) {
      this.send(key);
      if (echo) this.say(key === '\n' ? '\r\n' : key);
      this.later(80);
    }
    return this;
  }
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const summary = (proposal: WaitProposal) => ({
  prompt: proposal.prompt,
  answers: Object.fromEntries(proposal.answers.map(({ bytes, count }) => [text(bytes), count])),
  guesses: proposal.guesses.map(text),
});

test('a question that was answered in few ways: how often, how long, what to guess', () => {
  const session = new Session();
  ['y', 'y', 'n', 'y', 'y', 'y', 'y', 'y'].forEach((answer, n) => {
    session.say(`Overwrite file${n}? [y/N] `).later(500 + 100 * n);
    session.type(`${answer}\n`).say('done\r\n');
  });
  const [proposal, ...others] = detectWaits(session.log, session);
  assert.deepEqual(others, []);
  assert.deepEqual(summary(proposal!), {
    prompt: 'Overwrite file#? [y/N]',
    answers: { 'y\n': 7 },
    guesses: ['y\n'],
  });
  const { channel, occurrences, shortest, longest, total } = proposal!;
  assert.deepEqual(
    { channel, occurrences, shortest, longest, total },
    { channel: 'console', occurrences: 8, shortest: 500n * MS, longest: 1200n * MS, total: 6800n * MS },
  );
  assert.equal(proposal!.answers[0]!.probability, 7 / 8);
  // More to guess is not covered: "n" came once.
  assert.deepEqual(detectWaits(session.log, { output: session.output, coverage: 0.9 }), []);
});

test('keys with pauses and corrections are one answer, a hidden one too', () => {
  const session = new Session();
  for (const pause of [100, 2000, 400]) {
    session.say('Name: ').later(1000).type('bx\x7f').later(pause).type('ob\n').say('PIN: ').later(3000);
    session.type('0000\n', false).say('\r\nok\r\n');
  }
  assert.deepEqual(detectWaits(session.log, session).map(summary), [
    { prompt: 'PIN:', answers: { '0000\n': 3 }, guesses: ['0000\n'] },
    { prompt: 'Name:', answers: { 'bob\n': 3 }, guesses: ['bob\n'] },
  ]);
});

test('what follows at once belongs to the answer, and an answer that came at once was not waited for', () => {
  const session = new Session();
  for (let n = 0; n < 4; n++) {
    session.say('$ ').later(700).send('make\n').later(20).send('make install\n').later(50).say('built\r\n');
    session.later(10).say('Sure? ').later(30).send('yes\n').later(5).say('ok\r\n');
  }
  assert.deepEqual(detectWaits(session.log, session).map(summary), [
    { prompt: '$', answers: { 'make\nmake install\n': 4 }, guesses: ['make\nmake install\n'] },
  ]);
});

test('without output, waits of about the same length are one kind', () => {
  const session = new Session();
  session.event({ kind: 'port-open', port: 1, open: true });
  for (let n = 0; n < 10; n++) {
    session.later(5000 + 50 * n).send('ok', 1);
    session.later(60_000 + 100 * n).send(`report ${n}`, 1);
  }
  assert.deepEqual(detectWaits(session.log).map(summary), [
    { prompt: undefined, answers: { ok: 10 }, guesses: ['ok'] },
  ]);
});

test('a prompt is the last line, without colours and numbers', () => {
  assert.equal(promptOf('hello\r\n\x1b[1;32mroot@host12\x1b[0m:~# '), 'root@host#:~#');
  assert.equal(promptOf('\x1b]0;title 5\x07Continue?\r\n\r\n'), 'Continue?');
  assert.equal(promptOf('\r\n \t'), '');
});

/** A prompt that is answered in few ways, or is not: the label. */
interface Kind {
  readonly name: string;
  readonly isPredictable: boolean;
  run(session: Session, random: Random): void;
}

const word = (random: Random) => Array.from({ length: 8 }, () => String.fromCharCode(random.between(97, 122))).join('');
const think = (session: Session, random: Random) => session.later(random.between(200, 20_000));

function asked(prompt: string, isPredictable: boolean, answer: (random: Random) => string, echo = true): Kind {
  const name = `console ${promptOf(prompt.replaceAll('%', '0'))}`;
  return {
    name,
    isPredictable,
    run(session, random) {
      session.say(prompt.replaceAll('%', `${random.below(1000)}`));
      // The kernel may speak before the answer comes; then the prompt is not the last line.
      if (random.chance(0.03))
        session.later(300).say(`\r\n[${random.below(9999)}.${random.below(999)}] ${word(random)}: up\r\n`);
      think(session, random)
        .type(answer(random), echo)
        .say(`\r\n${word(random)}\r\n`);
    },
  };
}

const KINDS: readonly Kind[] = [
  asked('File %.txt exists. Overwrite? [y/N] ', true, (random) => (random.chance(0.9) ? 'y\n' : 'n\n')),
  asked('debian login: ', true, (random) => (random.chance(0.95) ? 'root\n' : `${word(random)}\n`)),
  asked('--More--(%%)', true, (random) => (random.chance(0.8) ? ' ' : 'q')),
  asked('Select one of 1-4: ', true, (random) => `${random.between(1, 4)}\n`),
  asked('\x1b[1mPress RETURN\x1b[0m to go on', true, () => '\n'),
  asked('Retry step %? ', true, (random) => random.pick(['a\n', 'r\n', 'r\n', 'i\n'])),
  asked('root@debian:~# ', false, (random) => (random.chance(0.3) ? 'ls\n' : `echo ${word(random)}\n`)),
  asked('Password: ', false, (random) => `${word(random)}\n`, false),
  asked('Commit message: ', false, (random) => `${word(random)} ${word(random)}\n`),
  {
    name: 'paste',
    isPredictable: false,
    run(session, random) {
      session.say('> ');
      think(session, random);
      for (let n = random.between(2, 9); n > 0; n--) session.send(`${word(random)}\n`).later(random.below(90));
      session.say('\r\n');
    },
  },
  {
    name: 'script',
    isPredictable: false,
    run: (session, random) =>
      void session.say('Confirm: ').later(random.between(1, 60)).send('y\n').later(5).say('y\r\nok\r\n'),
  },
  {
    name: '1 undefined',
    isPredictable: true,
    run: (session, random) =>
      void session.event({ kind: 'port-open', port: 1, open: true }).later(random.between(900, 1100)).send('ok\n', 1),
  },
  {
    name: '0 undefined',
    isPredictable: false,
    run: (session, random) => void think(session, random).send(`${word(random)}\n`, 0),
  },
  {
    name: 'surroundings',
    isPredictable: false,
    run(session, random) {
      session.event({ kind: 'resize', columns: random.between(20, 200), rows: 24 });
      session.event({ kind: 'link', up: random.chance(0.5) }).event({ kind: 'frame', bytes: new Uint8Array(60) });
      session.event({ kind: 'time', advance: BigInt(random.below(1000)) }).event({ kind: 'skip-idle', on: true });
    },
  },
];

test('on labelled logs: precision 1.0, recall at least 0.9, and guesses that are right at least 7 times of 10', (t) => {
  let [right, wrong, missed, covered, answered] = [0, 0, 0, 0, 0];
  for (let run = 0; run < 60; run++) {
    const random = new Random(run);
    const session = new Session();
    const counts = new Map<string, number>();
    for (let n = 0; n < 150; n++) {
      const kind = random.pick(KINDS);
      kind.run(session, random);
      session.later(random.below(50));
      counts.set(kind.name, (counts.get(kind.name) ?? 0) + 1);
    }
    const proposals = detectWaits(session.log, session);
    const proposed = new Set(proposals.map(({ channel, prompt }) => `${channel} ${prompt}`));
    for (const { name, isPredictable } of KINDS) {
      if (isPredictable && (counts.get(name) ?? 0) >= 3) proposed.has(name) ? right++ : missed++;
    }
    const labels = new Set(KINDS.filter(({ isPredictable }) => isPredictable).map(({ name }) => name));
    wrong += [...proposed].filter((name) => !labels.has(name)).length;
    for (const { answers, guesses, occurrences } of proposals) {
      const taken = answers.filter(({ bytes }) => guesses.some((guess) => text(guess) === text(bytes)));
      covered += taken.reduce((sum, { count }) => sum + count, 0);
      answered += occurrences;
    }
  }
  const precision = right / (right + wrong);
  const recall = right / (right + missed);
  t.diagnostic(`precision ${precision}, recall ${recall.toFixed(3)}, guesses right ${(covered / answered).toFixed(3)}`);
  assert.equal(precision, 1);
  assert.ok(recall >= 0.9, `recall ${recall}`);
  assert.ok(covered / answered >= 0.7);
});

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.constantFrom('y\n', 'n\n', ' ', '\r', '\x7f', '\x1b[A', 'x'.repeat(500)).map((s) => new TextEncoder().encode(s)),
);
const port = fc.constantFrom(0, 1);
const inputs: fc.Arbitrary<InputEvent> = fc.oneof(
  fc.record({ kind: fc.constant('console' as const), bytes }),
  fc.record({ kind: fc.constant('port' as const), port, bytes }),
  fc.record({ kind: fc.constant('port-open' as const), port, open: fc.boolean() }),
);
const unrelated: fc.Arbitrary<InputEvent> = fc.oneof(
  fc.record({ kind: fc.constant('resize' as const), columns: fc.nat(99), rows: fc.nat(99) }),
  fc.record({ kind: fc.constant('time' as const), advance: fc.bigInt(0n, 1n << 62n) }),
  fc.record({ kind: fc.constant('skip-idle' as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant('frame' as const), bytes }),
  fc.record({ kind: fc.constant('link' as const), up: fc.boolean() }),
);
const gap = fc.oneof(fc.bigInt(0n, 3n), fc.bigInt(0n, 200n), fc.bigInt(0n, 9000n)).map((ms) => ms * MS);

/** What happens, in order, each so long after the one before. */
const histories = fc.array(
  fc.record({
    gap,
    what: fc.oneof(
      { weight: 3, arbitrary: inputs.map((event) => ({ event })) },
      { weight: 3, arbitrary: fc.record({ channel: fc.constantFrom<Channel>('console', 0, 1), bytes }) },
      { weight: 1, arbitrary: unrelated.map((event) => ({ event })) },
    ),
  }),
  { maxLength: 60 },
);

function told(
  history: readonly { gap: bigint; what: { event: InputEvent } | { channel: Channel; bytes: Uint8Array } }[],
) {
  let time = 0n;
  const log: LoggedEvent[] = [];
  const output: TimedOutput[] = [];
  for (const { gap, what } of history) {
    time += gap;
    if ('event' in what) log.push({ position: { round: time, hart: 0, step: 0 }, time, event: what.event });
    else output.push({ time, ...what });
  }
  return { log, output };
}

const isInput = ({ event }: LoggedEvent) => ['console', 'port', 'port-open'].includes(event.kind);
const channelOf = ({ event }: LoggedEvent) => ('port' in event ? event.port : 'console');

test('any log has proposals, which keep to what was asked for', () => {
  fc.assert(
    fc.property(histories, fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), (history, least, most) => {
      const { log, output } = told(history);
      for (const proposal of detectWaits(log, { output, occurrences: least, guesses: most, coverage: 0.5 })) {
        assert.ok(proposal.occurrences >= least && proposal.guesses.length <= most && proposal.guesses.length > 0);
        assert.ok(proposal.shortest >= 100n * MS && proposal.longest >= proposal.shortest);
        assert.ok(proposal.total >= proposal.longest);
        const counts = proposal.answers.map(({ count }) => count);
        assert.deepEqual(
          counts,
          [...counts].sort((a, b) => b - a),
        );
        assert.ok(counts.reduce((a, b) => a + b, 0) <= proposal.occurrences && counts.every((count) => count > 1));
      }
    }),
    { numRuns: 2000, seed },
  );
});

test('unrelated events, their order, and the order of channels at one time change nothing', () => {
  fc.assert(
    fc.property(
      histories,
      fc.array(fc.record({ at: fc.nat(), event: unrelated }), { maxLength: 20 }),
      (history, more) => {
        const repeated = told([...history, ...history, ...history]);
        const expected = detectWaits(repeated.log, repeated);
        const events = repeated.log.filter(isInput);
        assert.deepEqual(detectWaits(events, repeated), expected);
        for (const { at, event } of more) {
          const place = at % (events.length + 1);
          const neighbour = events[place] ?? events.at(-1);
          const time = neighbour?.time ?? 0n;
          events.splice(place, 0, { position: { round: time, hart: 0, step: 0 }, time, event });
        }
        assert.deepEqual(detectWaits(events, repeated), expected);
        // Of events at one time those of a channel keep their order.
        const sorted = events
          .map((event, n) => ({ event, n }))
          .sort((a, b) => {
            const apart = Number(a.event.time - b.event.time);
            return apart || `${channelOf(b.event)}`.localeCompare(`${channelOf(a.event)}`) || a.n - b.n;
          })
          .map(({ event }) => event);
        assert.deepEqual(detectWaits(sorted, repeated), expected);
      },
    ),
    { numRuns: 1000, seed },
  );
});

/** How much a value holds, by the lengths of what it is made of. */
function weight(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (value instanceof Uint8Array) return value.length;
  if (value instanceof Map) return [...value].reduce((sum, [key, item]) => sum + weight(key) + weight(item), 1);
  if (typeof value !== 'object' || value === null) return 1;
  return Object.values(value).reduce((sum: number, item) => sum + weight(item), 1);
}

test('memory is bounded: endless output, answers that never end, prompts and ports without number', () => {
  const detector = new WaitDetector();
  let time = 0n;
  const weights: number[] = [];
  const send = (bytes: Uint8Array, channel = 0) => detector.input(time, { kind: 'port', port: channel, bytes });
  const random = new Random(seed);
  const long = new Uint8Array(100_000).fill(0x61);
  const blank = new Uint8Array(1000).fill(0x20);
  for (let n = 0; n < 60_000; n++) {
    time += 150n * MS;
    detector.output({ time, channel: n % 40, bytes: n % 7 === 0 ? blank : new TextEncoder().encode(word(random)) });
    time += 150n * MS;
    send(new TextEncoder().encode(`${word(random)}\n`), n % 40);
    if (n % 100 === 0) {
      send(long);
      detector.output({ time, channel: 0, bytes: long });
      detector.output({ time, channel: 0, bytes: blank });
    }
    // Output that nobody answers, and a port that nobody has heard of.
    detector.output({ time, channel: 'console', bytes: blank });
    detector.output({ time, channel: n, bytes: blank });
    if (n % 3 === 0) send(new TextEncoder().encode(`silent ${n}\n`), 1);
    if (n % 1000 === 999) weights.push(weight(detector));
  }
  // After the limits are reached it goes up and down, as what came once is dropped, but does not grow by half in half the time.
  const [first, second] = [Math.max(...weights.slice(0, 40)), Math.max(...weights.slice(40))];
  assert.ok(second <= first * 1.25, `${first} bytes at first, ${second} later`);
  assert.ok(second < 500_000, `${second}`);
  assert.deepEqual(detector.proposals(), []);
});

test('what is proposed for the wait that a channel is in', () => {
  const detector = new WaitDetector({ threshold: 10n });
  const bytes = (line: string) => new TextEncoder().encode(line);
  assert.equal(detector.expected('console'), undefined);
  for (let n = 0n; n < 8n; n++) {
    detector.output({ time: n * 100n, channel: 'console', bytes: bytes(`item ${n}? `) });
    detector.input(n * 100n + 50n, { kind: 'console', bytes: bytes('y\n') });
    if (n === 1n) assert.equal(detector.expected('console'), undefined, 'an answer is under way');
  }
  detector.output({ time: 900n, channel: 'console', bytes: bytes('another? ') });
  assert.equal(detector.expected('console'), undefined);
  detector.output({ time: 950n, channel: 'console', bytes: bytes('\nitem 99? ') });
  assert.deepEqual(detector.expected('console')?.guesses.map(text), ['y\n']);
  assert.equal(detector.expected(1), undefined);
});

/** Functions of the caller's that throw, reject, or never settle; and signals that are aborted before, or in the middle. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import {
  type BraidError,
  type ExploreOptions,
  explore,
  type ForkOptions,
  Machine,
  type Move,
  Replay,
  speculate,
} from './index.ts';
import { askingProgram, echoProgram, exitProgram, temporaryFolder } from './testing.ts';

const failure = new Error('the sink has failed');
const TOO_MUCH = ['sh', '-c', 'dd if=/dev/zero bs=65536 count=64 2>/dev/null; exec sleep 1000'];

describe('output of a program', () => {
  let machine: Machine;
  before(async () => {
    machine = await Machine.create({ memory: '64M', seed: 1 });
    await machine.boot();
  });
  after(() => machine.dispose());

  const isGone = async () => assert.equal((await machine.exec(['pidof', 'sleep'])).exitCode, 1, 'it was not ended');
  const run = (onStdout: (bytes: Uint8Array) => unknown, signal?: AbortSignal) =>
    machine.exec(['sh', '-c', 'echo a; sleep 1000; echo b'], { onStdout, ...(signal ? { signal } : {}) });

  for (const [name, sink] of [
    [
      'throws',
      () => {
        throw failure;
      },
    ],
    ['rejects', () => Promise.reject(failure)],
    ['rejects later', () => new Promise((_, reject) => setTimeout(reject, 5, failure))],
  ] as const)
    test(`a sink that ${name}: the call rejects with that very error, and the program is ended`, async () => {
      let calls = 0;
      const called = () => {
        calls++;
        return sink();
      };
      await assert.rejects(run(called), (error) => error === failure);
      assert.equal(calls, 1);
      await isGone();
    });

  test('on standard error too', async () => {
    const argv = ['sh', '-c', 'echo a >&2; sleep 1000'];
    await assert.rejects(machine.exec(argv, { onStderr: () => Promise.reject(failure) }), (error) => error === failure);
    await isGone();
  });

  test('a sink that rejects when the program has ended by itself', async () => {
    const sink = () => new Promise((_, reject) => setTimeout(reject, 50, failure));
    await assert.rejects(machine.exec(['echo', 'a'], { onStdout: sink }), (error) => error === failure);
  });

  test('a call resolves when its sink is done with all of the output', async () => {
    let taken = 0;
    const sink = async ({ length }: Uint8Array) => {
      await new Promise((resolve) => setTimeout(resolve, 30));
      taken += length;
    };
    await machine.exec(['echo', 'abc'], { onStdout: sink });
    assert.equal(taken, 4);
  });

  test('a sink that never settles holds the machine up until the call is aborted, and no longer', async () => {
    const leave = new AbortController();
    const call = machine.exec(TOO_MUCH, { onStdout: () => new Promise(() => {}), signal: leave.signal });
    setTimeout(() => leave.abort(failure), 300);
    await assert.rejects(call, (error) => error === failure);
    await isGone();
    // What this one is done with has been taken; what the last sink still holds is not waited for.
    const leaveLate = new AbortController();
    const late = machine.exec(['echo', 'a'], { onStdout: () => new Promise(() => {}), signal: leaveLate.signal });
    setTimeout(() => leaveLate.abort(failure), 100);
    await assert.rejects(late, (error) => error === failure);
    assert.equal((await machine.exec(['echo', 'ok'])).stdout, 'ok\n');
  });

  test('a signal that is aborted already: nothing is done', async () => {
    const signal = AbortSignal.abort(failure);
    const { steps } = await machine.stats();
    const calls: (() => Promise<unknown>)[] = [
      () => machine.exec(['true'], { signal }),
      () => machine.spawn(['true'], { signal }).exited,
      () => machine.boot({ signal }),
      () => machine.step(1000, { signal }),
      () => machine.runUntil({ pattern: 'x' }, { signal }),
      () => machine.runTo({ steps: 5n }, { signal }),
      () => machine.wait({ signal }),
      () => machine.readFile('/proc/uptime', { signal }),
      () => machine.writeFile('/tmp/a', 'a', { signal }),
      () => machine.shutdown({ signal }),
    ];
    for (const call of calls) await assert.rejects(call(), (error) => error === failure, String(call));
    assert.equal((await machine.stats()).steps, steps);
  });
});

test('the sink of a console that throws, and listeners that do: the event error is told, and the machine runs on', async () => {
  await using machine = await Machine.create({ bare: echoProgram(), memory: '32M', seed: 1 });
  const told: unknown[] = [];
  const heard: string[] = [];
  const end = machine.on('error', (error) => {
    told.push(error);
    throw new Error('a listener to errors that throws');
  });
  machine.onConsole(() => {
    throw failure;
  });
  const late = new Error('late');
  machine.on('exit', () => Promise.reject(late));
  machine.on('exit', ({ kind }) => heard.push(kind));
  const warned = once(process, 'warning');
  await machine.type('a');
  await machine.type('bq');
  assert.deepEqual(await machine.wait({ live: true }), { kind: 'poweroff', code: 0 });
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(told, [failure, late]);
  assert.deepEqual(heard, ['poweroff'], 'the other listener was told');
  const [warning] = (await warned) as [Error];
  assert.match(warning.message, /a listener has failed: a listener to errors that throws/);
  end();
});

test('without a listener to errors there is a warning', async () => {
  await using machine = await Machine.create({ bare: exitProgram(3), memory: '32M', seed: 1 });
  machine.on('exit', () => {
    throw failure;
  });
  const warned = once(process, 'warning');
  await machine.wait();
  const [warning] = (await warned) as [Error];
  assert.equal(warning.name, 'BraidListenerWarning');
  assert.equal(warning.cause, failure);
});

describe('a replay', () => {
  const path = `${temporaryFolder(after)}/recording`;
  before(async () => {
    await using machine = await Machine.create({ bare: echoProgram(), memory: '32M', seed: 1 });
    await using _recording = await machine.record(path);
    await machine.type('abcq');
    await machine.wait({ live: true });
  });

  for (const [name, fail] of [
    [
      'throws',
      () => {
        throw failure;
      },
    ],
    ['rejects', () => Promise.reject(failure)],
  ] as const)
    test(`whose console's sink ${name}: the run rejects with that`, async () => {
      await using replay = await Replay.open(path, { onConsole: fail });
      await assert.rejects(replay.run({ show: true }), (error) => error === failure);
      await replay.seek({ at: 0n });
      assert.equal(replay.at, 0n);
    });

  test('with a hook that never ends: the run can be aborted, and the replay moves on', async () => {
    await using replay = await Replay.open(path);
    let called: () => void = () => {};
    const standing = new Promise<void>((resolve) => {
      called = resolve;
    });
    await replay.on(0x8000_0000n, () => {
      called();
      return new Promise(() => {});
    });
    const leave = new AbortController();
    const run = replay.run({ signal: leave.signal });
    await standing;
    leave.abort(failure);
    await assert.rejects(run, (error) => error === failure);
    await replay.step();
    assert.ok(replay.at > 0n);
  });

  test('with a hook that throws: the run rejects with that', async () => {
    await using replay = await Replay.open(path);
    await replay.on(0x8000_0000n, () => {
      throw failure;
    });
    await assert.rejects(replay.run(), (error) => error === failure);
    await replay.step();
  });
});

test('what no thread can be sent fails its own call only', async () => {
  await using machine = await Machine.create({ bare: echoProgram(), memory: '32M', seed: 1 });
  const saved = { ...(await machine.save()), machine: { harts: () => {} } };
  const restored = Machine.restore(saved);
  await assert.rejects(restored, ({ code, message }: BraidError) => {
    assert.equal(code, 'ERR_BRAID_OPTION');
    assert.match(message, /cannot be sent/);
    return true;
  });
  await machine.step(10);
});

describe('callbacks of searches and guesses', () => {
  const fail = () => {
    throw failure;
  };
  const isFailure = (error: unknown) => error === failure;
  let machine: Machine;
  before(async () => {
    machine = await Machine.create({ bare: askingProgram(), memory: '32M', seed: 1 });
    await machine.runUntil({ pattern: '> ' });
  });
  after(() => machine.dispose());

  test('explore: about the root, and progress, they reject it', async () => {
    const moves = () => [{ type: 'a\n', until: '> ' }];
    const cases: Partial<ExploreOptions>[] = [
      { moves: fail },
      { moves: () => Promise.reject(failure) },
      { score: fail },
      { stop: fail },
      { dedupe: fail },
      { onProgress: fail },
    ];
    for (const options of cases)
      await assert.rejects(
        explore(machine, { moves, budget: { nodes: 2 }, ...options }),
        isFailure,
        Object.keys(options).join(),
      );
  });

  test('explore: about another state, it is the outcome of that', async () => {
    let asked = 0;
    await using found = await explore(machine, {
      moves: () => [{ type: 'a\n', until: '> ' }, fail],
      budget: { depth: 1 },
      score: () => {
        if (asked++ > 0) throw failure;
        return 1;
      },
    });
    assert.deepEqual(
      found.root.children.map(({ outcome }) => outcome),
      ['failed', 'failed'],
    );
  });

  test('explore: a signal that is aborted already, and one aborted in a move that never ends', async () => {
    const signal = AbortSignal.abort(failure);
    await assert.rejects(explore(machine, { moves: () => [], signal }), isFailure);
    const leave = new AbortController();
    const moves = () => [
      () => {
        leave.abort(failure);
        return new Promise(() => {});
      },
    ];
    const search = explore(machine, { moves: moves as () => Move[], signal: leave.signal });
    const late = new Promise((resolve) => setTimeout(resolve, 5000, 'late').unref());
    assert.notEqual(await Promise.race([search.catch((error) => error), late]), 'late');
    await assert.rejects(search, isFailure);
    const answers = new AbortController();
    const score = () => {
      answers.abort(failure);
      return new Promise<number>(() => {});
    };
    await assert.rejects(explore(machine, { moves: () => [], score, signal: answers.signal }), isFailure);
  });

  test('speculate: guesses and answer reject it', async () => {
    await assert.rejects(speculate(machine, { guesses: fail }), isFailure);
    await assert.rejects(speculate(machine, { guesses: () => Promise.reject(failure) }), isFailure);
    await assert.rejects(speculate(machine, { guesses: ['a\n'], answer: fail }), isFailure);
    await assert.rejects(speculate(machine, { guesses: ['a\n'], signal: AbortSignal.abort(failure) }), isFailure);
    await assert.rejects(speculate(machine, { guesses: () => [5] as never }), { code: 'ERR_BRAID_OPTION' });
  });

  test('fork: what the function of options throws, or gives that is bad, rejects it, and nothing is made', async () => {
    const { used } = machine.pool.memory;
    await assert.rejects(machine.fork(2, fail), isFailure);
    await assert.rejects(
      machine.fork(2, (n) => (n === 1 ? ({ seed: -1 } as ForkOptions) : {})),
      { code: 'ERR_BRAID_OPTION', message: /^options of fork 1\.seed must be/ },
    );
    await using point = await machine.forkPoint();
    await assert.rejects(point.fork({ mac: 5 } as never), { code: 'ERR_BRAID_OPTION', message: /^mac must be/ });
    await point.dispose();
    assert.equal(machine.pool.memory.used, used);
  });

  test('the machine stands where it stood, and runs on', async () => {
    await machine.type('a\n');
    await machine.runUntil({ pattern: '> ' });
  });
});

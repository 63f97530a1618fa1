/** The switches that turn single techniques of the shadow tables off: each does something, and none leaves a state to keep. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { Engine, type EngineCounters } from '../engine/engine.ts';
import { DISABLE } from '../hart/state.ts';
import { Pool } from '../memory/pool.ts';
import { stateHash } from './hash.ts';
import { Machine } from './machine.ts';
import { saveMachine } from './save.ts';

const image = new URL('../../../../guest/prebuilt/Image.gz', import.meta.url);
const STEPS = 6_000_000;

/** The first steps of Linux with some techniques off: what the engine counted. */
function boot(engine: Engine, techniques: number): EngineCounters {
  const kernel = gunzipSync(readFileSync(image));
  let output = '';
  const machine = new Machine(
    engine,
    { boot: { kind: 'linux', kernel, append: 'earlycon=sbi' }, memory: 64 * 2 ** 20, harts: 1, seed: 1n },
    {
      console: (bytes) => {
        output += Buffer.from(bytes).toString('latin1');
      },
    },
  );
  engine.attach(machine);
  engine.disable(techniques);
  const before = engine.counters;
  machine.run(STEPS);
  assert.match(output, /Linux version/);
  if (techniques !== 0) {
    assert.throws(() => stateHash(machine), { code: 'ERR_BRAID_MACHINE' });
    assert.throws(() => saveMachine(machine), { code: 'ERR_BRAID_MACHINE' });
  }
  const after = engine.counters;
  engine.disable(0);
  machine.free();
  return Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, value - before[name as keyof EngineCounters]]),
  ) as EngineCounters;
}

test('each technique can be turned off, and then is', {
  skip: !existsSync(image) && 'there is no default guest',
}, () => {
  const engine = new Engine(new Pool());
  const all = boot(engine, 0);
  assert.equal(boot(engine, DISABLE.tags).hits, 0n);
  assert.ok(all.hits > 0n);
  assert.equal(boot(engine, DISABLE.batch).batchFills, 0n);
  assert.ok(all.batchFills > 0n);
  assert.ok(boot(engine, DISABLE.trace).tracedWrites < all.tracedWrites);
  assert.ok(boot(engine, DISABLE.lazy).misses > all.misses);
  const shootdown = boot(engine, DISABLE.shootdown);
  assert.equal(shootdown.drops, 0n);
  assert.ok(shootdown.flushes > all.flushes);
  assert.deepEqual(boot(engine, 0), all, 'and on again');
});

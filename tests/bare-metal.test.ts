/** Programs without any firmware, in M-mode and what they build above it, with a disk. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BlockBackend, Machine, MemoryBackend, stateHash } from '../packages/core/src/index.ts';
import { compile, compilerMissing } from './lib/compile.ts';
import { Session, sharedEngine } from './lib/session.ts';

const SECTORS = 640;

function disk(): Uint8Array {
  const words = Uint32Array.from({ length: SECTORS * 128 }, (_, n) => n);
  return new Uint8Array(words.buffer);
}

/** A backend whose answers come when the host's event loop gets to them. */
function late(inner: MemoryBackend): BlockBackend {
  const soon = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    size: inner.size,
    readOnly: inner.readOnly,
    read: async (offset, into) => {
      await soon();
      await inner.read(offset, into);
    },
    write: async (offset, bytes) => {
      await soon();
      await inner.write(offset, bytes);
    },
    flush: async () => {
      await soon();
      await inner.flush();
    },
  };
}

describe('a small kernel with a disk driver', { skip: compilerMissing }, () => {
  const options = (image: Uint8Array, backend: BlockBackend, harts = 1) => ({
    boot: { kind: 'bare', image } as const,
    memory: 32 * 2 ** 20,
    harts,
    seed: 1n,
    disks: [{ backend, serial: 'first' }],
  });

  for (const harts of [1, 3]) {
    test(`reads, writes, gets errors, on ${harts} harts`, async () => {
      const content = disk();
      using session = new Session(options(compile('disk.c'), new MemoryBackend(content), harts));
      assert.deepEqual(await session.exit(10e6), { kind: 'poweroff', code: 0 }, session.output);
      assert.equal(session.output, 'the disk first is good\n');
      const words = new Uint32Array(content.buffer);
      assert.equal(words[2 * 128 + 5], ~(128 + 5) >>> 0);
      assert.equal(words[3 * 128], 3 * 128);
    });
  }

  test('a host that answers late makes no difference', async () => {
    const image = compile('disk.c');
    using prompt = new Session(options(image, new MemoryBackend(disk())));
    await prompt.exit(10e6);
    using tardy = new Session(options(image, late(new MemoryBackend(disk()))));
    await tardy.exit(10e6);
    assert.equal(tardy.output, prompt.output);
    assert.equal(tardy.machine.totalSteps, prompt.machine.totalSteps);
    assert.equal(tardy.machine.now, prompt.machine.now);
  });

  test('a disk with another content is found out, and the code says where', async () => {
    const content = disk();
    content[128 * 512 + 9] ^= 1;
    using session = new Session(options(compile('disk.c'), new MemoryBackend(content)));
    assert.deepEqual(await session.exit(10e6), { kind: 'fail', code: 9 });
    assert.equal(session.output, 'wrong: what was read\n');
  });

  test('in pieces with dropped caches it is the same run', () => {
    const image = compile('disk.c');
    const run = (pieces: boolean) => {
      const machine = new Machine(sharedEngine(), options(image, new MemoryBackend(disk())));
      machine.input({ kind: 'skip-idle', on: true });
      for (let n = 1; !machine.exit; n = (n * 7) % 997) {
        const stop = machine.run(pieces ? n : 1e6);
        assert.notEqual(stop.reason, 'idle');
        assert.ok(machine.totalSteps < 1_000_000n, 'it does not end');
        if (pieces && n % 5 === 0) machine.engine.dropCaches();
        if (pieces && n % 11 === 0) stateHash(machine);
      }
      const hash = stateHash(machine);
      machine.free();
      return hash;
    };
    assert.equal(run(true), run(false));
  });
});

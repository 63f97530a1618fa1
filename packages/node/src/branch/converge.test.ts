/** Merging, copying and comparing machines that have gone on from a common fork point, on the default guest. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type BraidError, diff, type ForkPoint, Machine, type Merged, Pool } from '../index.ts';

const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;
const linux = { skip: guestMissing };

/** A machine that `setUp` has prepared, its fork point, and a clone. */
async function forked(setUp: string, options: Parameters<typeof Machine.create>[0] = {}) {
  const pool = new Pool({ threads: 1 });
  const machine = await Machine.create({ seed: 9n, memory: '64M', pool, ...options });
  await machine.boot();
  await sh(machine, setUp);
  const base = await machine.forkPoint();
  const clone = await base.fork();
  return { pool, machine, base, clone, [Symbol.asyncDispose]: () => pool.dispose() };
}

async function sh(machine: Machine, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await machine.exec(['sh', '-c', script]);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

/** Outcomes by path, range or disk. */
function outcomes({ items }: Merged): Record<string, string> {
  return Object.fromEntries(
    items.map((item) => [
      item.kind === 'file'
        ? item.path
        : item.kind === 'disk'
          ? `disk ${item.disk}`
          : `0x${item.range.address.toString(16)}`,
      item.outcome,
    ]),
  );
}

describe('files', linux, () => {
  const SET_UP = `mkdir -p /w/deep; cd /w; for name in kept taken same conflict removed gone deep/a none; do echo base >$name; done
    ln -s taken link; printf 'a\\nb' >'odd name
'`;

  test('each file is three-way; conflicts are reported and change nothing; a second merge is right', async () => {
    await using all = await forked(SET_UP);
    const { machine, base, clone } = all;
    await sh(
      clone,
      `cd /w; echo theirs >taken; echo both >same; echo theirs >conflict; rm removed; echo new >deep/new; chmod 750 deep/new
      echo odd >'odd name\n'; rm gone`,
    );
    await sh(machine, 'cd /w; echo ours >kept; echo both >same; echo ours >conflict; echo changed >gone');
    const first = await machine.merge(clone, { base, files: ['/w'] });
    assert.deepEqual(outcomes(first), {
      '/w/kept': 'kept',
      '/w/taken': 'taken',
      '/w/same': 'same',
      '/w/conflict': 'conflict',
      '/w/removed': 'taken',
      '/w/gone': 'conflict',
      '/w/deep/a': 'unchanged',
      '/w/deep/new': 'taken',
      '/w/none': 'unchanged',
      '/w/link': 'refused',
      '/w/odd name\n': 'taken',
    });
    assert.equal(first.clean, false);
    assert.equal(
      await sh(
        machine,
        'cd /w; cat kept taken same conflict gone deep/new odd*; stat -c %a deep/new; ls removed 2>/dev/null | wc -l; find / -xdev -name "*.braid~"',
      ),
      'ours\ntheirs\nboth\nours\nchanged\nnew\nodd\n750\n0\n',
    );
    // Both go on: what was merged has a new base, what was a conflict has not.
    await sh(clone, 'cd /w; echo theirs2 >taken; echo theirs2 >kept; echo theirs2 >same');
    await sh(machine, 'cd /w; echo ours2 >same; echo resolved >conflict');
    const second = await machine.merge(clone, {
      base,
      files: ['/w/taken', '/w/kept', '/w/same', '/w/conflict', '/w/never'],
    });
    assert.deepEqual(outcomes(second), {
      '/w/taken': 'taken',
      '/w/kept': 'conflict',
      '/w/same': 'conflict',
      '/w/conflict': 'conflict',
    });
    assert.equal(await sh(machine, 'cd /w; cat taken kept same conflict'), 'theirs2\nours\nours2\nresolved\n');
    // And the other way round, with the same bases.
    await sh(machine, 'echo ours3 >/w/taken');
    assert.deepEqual(outcomes(await clone.merge(machine, { base, files: ['/w/taken'] })), { '/w/taken': 'taken' });
    assert.equal(await sh(clone, 'cat /w/taken'), 'ours3\n');
  });

  test('what the other side has read and we have changed: nothing is merged', async () => {
    await using all = await forked('mkdir /w; echo base >/w/input; echo base >/w/output');
    const { machine, base, clone } = all;
    await sh(clone, 'sed s/base/result/ /w/input >/w/output');
    await sh(machine, 'echo other >/w/input');
    const merged = await machine.merge(clone, { base, files: ['/w/output'], reads: { files: ['/w/input'] } });
    assert.deepEqual(outcomes(merged), { '/w/input': 'stale' });
    assert.equal(merged.clean, false);
    assert.equal(await sh(machine, 'cat /w/output'), 'base\n');
    const without = await machine.merge(clone, { base, files: ['/w/output'], reads: { files: ['/w/output'] } });
    assert.deepEqual(outcomes(without), { '/w/output': 'taken' });
  });

  test('a reset or an adoption makes the bases of earlier merges void', async () => {
    await using all = await forked('mkdir /w; echo base >/w/a');
    const { machine, base, clone } = all;
    await sh(clone, 'echo theirs >/w/a');
    const files = ['/w/a'];
    assert.deepEqual(outcomes(await machine.merge(clone, { base, files })), { '/w/a': 'taken' });
    await machine.reset(base);
    assert.deepEqual(outcomes(await machine.merge(clone, { base, files })), { '/w/a': 'taken' });
    assert.equal(await sh(machine, 'cat /w/a'), 'theirs\n');
  });

  test('copies, whatever is there', async () => {
    await using all = await forked('mkdir -p /w/x; echo base >/w/a; echo base >/w/b');
    const { machine, clone } = all;
    await sh(clone, 'echo theirs >/w/a; rm /w/b; echo new >/w/x/c');
    await sh(machine, 'echo ours >/w/a; echo ours >/w/x/d');
    await machine.copy(clone, { files: ['/w'] });
    assert.equal(await sh(machine, 'cd /w; find . -type f | sort; cat a x/c'), './a\n./x/c\ntheirs\nnew\n');
  });

  test('what cannot be asked for', async () => {
    await using all = await forked('true');
    const { machine, base, clone } = all;
    await assert.rejects(machine.merge(clone, { base, files: ['relative'] }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.merge(machine, { base }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.merge(clone, { base, disks: [9] }), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.copy(clone, { files: ['/dev/null'] }), code('ERR_BRAID_FILE'));
    await using stranger = await Machine.create({ memory: '64M' });
    await assert.rejects(machine.merge(stranger, { base }), code('ERR_BRAID_OPTION'));
    await assert.rejects(diff(machine, stranger), code('ERR_BRAID_OPTION'));
    await clone.dispose();
    await assert.rejects(machine.merge(clone, { base, files: ['/w'] }), code('ERR_BRAID_DISPOSED'));
    const { used } = all.pool.memory;
    await assert.rejects(machine.merge(clone, { base, files: ['/w'] }), code('ERR_BRAID_DISPOSED'));
    assert.equal(all.pool.memory.used, used);
  });
});

/** A process that waits, its number in /tmp/pid, with a page of its own memory at `address`. */
const HOLDER = `awk 'BEGIN { for (i = 0; i < 4000; i++) s = s "braid-memory-"; print s >"/dev/null"; system("sleep 100000") }' & echo $! >/tmp/pid; sleep 1`;

/** Where such a process's text is. */
async function findText(machine: Machine): Promise<{ pid: number; address: bigint }> {
  const pid = Number(await sh(machine, 'cat /tmp/pid'));
  const maps = await sh(machine, `grep -E 'rw-p.*(heap|00:00 0)' /proc/${pid}/maps`);
  for (const line of maps.trim().split('\n')) {
    const [from, to] = line
      .split(' ')[0]!
      .split('-')
      .map((text) => BigInt(`0x${text}`)) as [bigint, bigint];
    const parts: Uint8Array[] = [];
    await machine.exec(
      ['dd', `if=/proc/${pid}/mem`, 'bs=4096', `skip=${from / 4096n}`, `count=${(to - from) / 4096n}`],
      { onStdout: (bytes) => parts.push(bytes) },
    );
    const at = Buffer.concat(parts).indexOf('braid-memory-'.repeat(2000));
    if (at >= 0) return { pid, address: from + BigInt(at) };
  }
  throw new Error('the text is not there');
}

const poke = (machine: Machine, pid: number, address: bigint, text: string) =>
  sh(machine, `printf '${text}' | dd of=/proc/${pid}/mem bs=1 seek=${address} conv=notrunc 2>/dev/null`);
const peek = (machine: Machine, pid: number, address: bigint, length: number) =>
  sh(machine, `dd if=/proc/${pid}/mem bs=1 skip=${address} count=${length} 2>/dev/null`);

describe('memory of processes', linux, () => {
  test('is merged by words, and the process goes on', async () => {
    await using all = await forked(HOLDER);
    const { machine, base, clone } = all;
    const { pid, address: text } = await findText(machine);
    const address = (text + 7n) & ~7n;
    const length = 9000;
    const range = { pid, address, length };
    await poke(clone, pid, address + 16n, 'THEIRS!!');
    await poke(clone, pid, address + 8000n, 'far');
    await poke(machine, pid, address + 40n, 'OURS');
    assert.deepEqual(outcomes(await machine.merge(clone, { base, memory: [range] })), {
      [`0x${address.toString(16)}`]: 'merged',
    });
    assert.equal(await peek(machine, pid, address + 16n, 8), 'THEIRS!!');
    assert.equal(await peek(machine, pid, address + 40n, 4), 'OURS');
    assert.equal(await peek(machine, pid, address + 8000n, 3), 'far');
    assert.match(await sh(machine, `cat /proc/${pid}/stat`), /\) S /);
    // Again: the base is what has been merged.
    await poke(clone, pid, address + 16n, 'AGAIN...');
    assert.deepEqual(outcomes(await machine.merge(clone, { base, memory: [range] })), {
      [`0x${address.toString(16)}`]: 'merged',
    });
    assert.equal(await peek(machine, pid, address + 16n, 8), 'AGAIN...');
    // Different bytes of one word: no half of it is taken.
    await poke(clone, pid, address + 100n * 8n, 'x');
    await poke(machine, pid, address + 100n * 8n + 1n, 'y');
    const { items } = await machine.merge(clone, {
      base,
      memory: [range, { address: 0x8000_0000n, length: 8 }, { ...range, address: 8n }],
    });
    assert.deepEqual(
      items.map(({ outcome }) => outcome),
      ['conflict', 'refused', 'refused'],
    );
    assert.deepEqual((items[0] as { conflicts: unknown }).conflicts, [{ at: 800, length: 8 }]);
    assert.match(items[1]!.why!, /never merged/);
    const bytes = { ...range, unit: 1 } as const;
    assert.deepEqual(outcomes(await machine.merge(clone, { base, memory: [{ ...bytes, length: 900 }] })), {
      [`0x${address.toString(16)}`]: 'merged',
    });
    await machine.copy(clone, { memory: [range] });
    assert.equal(await peek(machine, pid, address + 40n, 4), await peek(clone, pid, address + 40n, 4));
  });

  test('another process of that number is refused, and stale reads are seen', async () => {
    await using all = await forked(HOLDER);
    const { machine, base, clone } = all;
    const { pid, address } = await findText(machine);
    const range = { pid, address, length: 64 };
    await poke(machine, pid, address, 'changed');
    const stale = await machine.merge(clone, { base, reads: { memory: [range] } });
    assert.deepEqual(Object.values(outcomes(stale)), ['stale']);
    await sh(machine, `kill -9 ${pid}`);
    const gone = await machine.merge(clone, { base, memory: [range] });
    assert.deepEqual(Object.values(outcomes(gone)), ['refused']);
  });
});

describe('disks', linux, () => {
  const disk = () => new Uint8Array(2 ** 20);
  const put = (text: string, block: number) =>
    `printf '${text}' | dd of=/dev/vda bs=4096 seek=${block} conv=notrunc,fsync 2>/dev/null`;
  const get = (machine: Machine, block: number, length: number) =>
    sh(machine, `dd if=/dev/vda bs=4096 skip=${block} count=1 2>/dev/null | head -c ${length}`);

  test('are merged by blocks; the guest sees it; a second merge is right', async () => {
    await using all = await forked(put('base', 1), { disks: [disk(), disk()] });
    const { machine, base, clone } = all;
    await sh(clone, `${put('theirs', 1)}; ${put('new', 5)}`);
    await sh(machine, put('ours', 3));
    assert.equal(await get(machine, 1, 4), 'base');
    const first = await machine.merge(clone, { base, disks: [0, 1] });
    assert.deepEqual(
      first.items.map((item) => [item.outcome, item.kind === 'disk' && item.blocks]),
      [
        ['merged', [1, 5]],
        ['unchanged', []],
      ],
    );
    assert.equal((await get(machine, 1, 6)) + (await get(machine, 3, 4)) + (await get(machine, 5, 3)), 'theirsoursnew');
    await sh(clone, put('more', 1));
    await sh(machine, put('mine', 5));
    assert.deepEqual(outcomes(await machine.merge(clone, { base, disks: [0] })), { 'disk 0': 'merged' });
    assert.equal((await get(machine, 1, 4)) + (await get(machine, 5, 4)), 'moremine');
    await sh(clone, put('x', 5));
    const third = await machine.merge(clone, { base, disks: [0] });
    assert.deepEqual(
      third.items.map((item) => [item.outcome, item.kind === 'disk' && item.blocks]),
      [['conflict', [5]]],
    );
    assert.equal(await get(machine, 5, 4), 'mine');
  });

  test('that somebody uses are refused, with the reason', async () => {
    await using all = await forked('mke2fs /dev/vda >/dev/null 2>&1; mkdir -p /mnt/d', { disks: [disk()] });
    const { machine, base, clone } = all;
    const mount = async (one: Machine) =>
      sh(
        one,
        'mount -t ext2 /dev/vda /mnt/d 2>/dev/null || (mkswap /dev/vda && swapon /dev/vda) >/dev/null 2>&1 || true; cat /proc/mounts /proc/swaps',
      );
    const used = await mount(clone);
    if (used.includes('/dev/vda')) {
      const { items } = await machine.merge(clone, { base, disks: [0] });
      assert.equal(items[0]!.outcome, 'refused');
      assert.match(items[0]!.why!, /the other machine: vda is (mounted|used for swap)/);
    }
    const open = machine.spawn(['sh', '-c', 'exec 3</dev/vda; sleep 100000']);
    await sh(machine, 'sleep 1');
    await using fresh = await base.fork();
    const { items } = await machine.merge(fresh, { base, disks: [0] });
    assert.equal(items[0]!.outcome, 'refused');
    assert.match(items[0]!.why!, /this machine: vda is open/);
    open.exited.catch(() => {});
  });
});

describe('differences', linux, () => {
  test('files, memory, registers, disks; and none of a machine and itself', async () => {
    await using all = await forked('mkdir /w; echo a >/w/a; echo b >/w/b', { disks: [new Uint8Array(2 ** 20)] });
    const { machine, base, clone } = all;
    const before = await machine.stateHash();
    const same = await diff(machine, base, { files: ['/w'] });
    assert.deepEqual(same, { registers: [], memory: [], disks: [[]], files: [], more: false });
    assert.equal(await machine.stateHash(), before);
    await sh(
      clone,
      'echo other >/w/a; rm /w/b; echo c >/w/c; printf x | dd of=/dev/vda bs=4096 seek=7 conv=fsync 2>/dev/null',
    );
    const found = await diff(base as ForkPoint, clone, { files: ['/w', '/etc'], limit: 10 });
    assert.deepEqual(
      found.files.map(({ path, a, b }) => [path, a.kind, b.kind]),
      [
        ['/w/a', 'file', 'file'],
        ['/w/b', 'file', 'absent'],
        ['/w/c', 'absent', 'file'],
      ],
    );
    assert.ok(found.registers.length > 0);
    assert.ok(found.registers.every(({ hart, a, b }) => hart === 0 && a !== b));
    assert.equal(found.memory.length, 10);
    assert.equal(found.more, true);
    assert.deepEqual(found.disks, [[{ at: 7 * 4096, length: 4096 }]]);
    await using small = await Machine.create({ memory: '32M', pool: all.pool });
    await assert.rejects(diff(machine, small), code('ERR_BRAID_OPTION'));
  });
});

test('a merge that is given up, and one whose thread dies: nothing is left of them', linux, async () => {
  await using all = await forked('mkdir /w; echo a >/w/a');
  const { machine, base, clone, pool } = all;
  await sh(clone, 'echo b >/w/a');
  const given = machine.merge(clone, { base, files: ['/w'], signal: AbortSignal.timeout(1) });
  await assert.rejects(given, { name: 'TimeoutError' });
  assert.deepEqual(outcomes(await machine.merge(clone, { base, files: ['/w'] })), { '/w/a': 'taken' });
  const merging = machine.merge(clone, { base, files: ['/w'] });
  const [thread] = (pool as unknown as { threads: Set<{ worker: Worker }> }).threads;
  await Promise.all([assert.rejects(merging, code('ERR_BRAID_WORKER')), thread!.worker.terminate()]);
  await base.dispose();
  await pool.recovered();
  assert.equal(pool.memory.used, 0);
});

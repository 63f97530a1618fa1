/**
 * Random privileged code, and random page tables, compared with QEMU's `virt` machine.
 *
 * What QEMU 7.2 does otherwise, against the specification or within the freedom that it gives, is kept out of the programs
 * or allowed for where they are compared; each place says so:
 *
 *   - mret and sret do not clear MPRV; of several pending interrupts the one with the lowest number is taken
 *   - ebreak leaves 0 in tval (ours: its address); tval of a misaligned access to nowhere is that of an aligned piece
 *   - an AMO to nowhere is reported as a failed load; protection of an access across pages looks at one page only
 *   - writes of reserved values (mtvec modes, MPP = 2, UXL), bit 0 of epc, STIP when Sstc is switched on or off
 *   - accessed and dirty flags are always updated by hardware: Svade has directed tests only
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED } from '../packages/core/src/testing/machines.ts';
import { PrivilegedProgram, RECORD_SIZE, RECORDS } from '../packages/core/src/testing/privileged-program.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { FINAL, LOG, LOG_WORDS, WalkProgram } from '../packages/core/src/testing/walk-program.ts';
import { qemuMissing, runBoth } from './lib/qemu.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 4);
const CASES = 3000;
const ACCESSES = 8000;

const words = (bytes: Uint8Array) => new BigUint64Array(bytes.buffer);

test('random privileged sequences take the same traps and leave the same registers as on QEMU', async (t) => {
  const missing = qemuMissing();
  if (missing) return t.skip(missing);
  for (let n = 0; n < PROGRAMS; n++) {
    const seed = SEED * 1000 + n;
    const program = new PrivilegedProgram(new Random(seed), CASES);
    const { braid, qemu } = await runBoth(program.image());
    using ours = braid;
    using theirs = qemu;
    let traps = 0n;
    for (let i = 0; i < CASES; i++) {
      const a = words(ours.read(RECORDS + i * RECORD_SIZE, RECORD_SIZE));
      const b = words(theirs.read(RECORDS + i * RECORD_SIZE, RECORD_SIZE));
      traps += program.traps(a);
      if (a.some((value, j) => value !== b[j])) assert.fail(`seed ${seed}: ${program.describe(i, a, b)}`);
    }
    t.diagnostic(`seed ${seed}: ${CASES} cases, ${traps} traps`);
    assert.ok(traps > CASES);
  }
});

test('random page tables translate, fault and are marked as on QEMU', async (t) => {
  const missing = qemuMissing();
  if (missing) return t.skip(missing);
  for (let n = 0; n < PROGRAMS; n++) {
    const seed = SEED * 1000 + n;
    const program = new WalkProgram(new Random(seed), ACCESSES);
    const { braid, qemu } = await runBoth(program.image());
    using ours = braid;
    using theirs = qemu;
    const a = words(ours.read(LOG, ACCESSES * LOG_WORDS * 8));
    const b = words(theirs.read(LOG, ACCESSES * LOG_WORDS * 8));
    const causes = new Map<bigint, number>();
    for (let i = 0; i < ACCESSES; i++) {
      const entry = (log: BigUint64Array) => log.subarray(i * LOG_WORDS, (i + 1) * LOG_WORDS);
      const hex = (log: BigUint64Array) => [...entry(log)].map((value) => value.toString(16)).join(' ');
      causes.set(entry(a)[1]!, (causes.get(entry(a)[1]!) ?? 0) + 1);
      if (!program.agree(i, entry(a), entry(b))) {
        assert.fail(
          `seed ${seed}: ${program.describe(i)}\nbraid ${hex(a)}\nqemu  ${hex(b)}  (value, cause, tval, epc)`,
        );
      }
    }
    const memory = ours.read(FINAL.address, FINAL.length);
    const other = theirs.read(FINAL.address, FINAL.length);
    const at = memory.findIndex((byte, i) => byte !== other[i]);
    assert.equal(at, -1, `seed ${seed}: memory differs at 0x${(FINAL.address + at).toString(16)}`);
    const counts = [...causes].sort().map(([cause, count]) => `${cause}: ${count}`);
    t.diagnostic(`seed ${seed}: ${ACCESSES} accesses, by cause (0 = none): ${counts.join(', ')}`);
    // Every fault of a page or of memory, and fetches that arrived in both modes.
    for (const cause of [0n, 1n, 5n, 7n, 8n, 9n, 12n, 13n, 15n]) assert.ok(causes.has(cause), `no cause ${cause}`);
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseElf } from './elf.ts';
import { BootError } from './errors.ts';
import { buildElf } from './testing.ts';

const code = Uint8Array.of(0x6f, 0, 0, 0);
const good = () => buildElf({ segments: [{ address: 0x8000_0000n, data: code, memorySize: 64 }] });

function refused(bytes: Uint8Array, pattern: RegExp) {
  assert.throws(
    () => parseElf(bytes),
    (error) => error instanceof BootError && error.code === 'ERR_BRAID_BOOT' && pattern.test(error.message),
  );
}

function changed(change: (view: DataView) => void): Uint8Array {
  const bytes = good();
  change(new DataView(bytes.buffer));
  return bytes;
}

test('segments come by ascending physical address, as views of the file', () => {
  const bytes = buildElf({
    entry: 0x8000_1004n,
    segments: [
      { address: 0x8000_1000n, data: new Uint8Array(8).fill(7) },
      { address: 0x8000_0000n, data: code, memorySize: 0x100 },
    ],
  });
  const elf = parseElf(bytes);
  assert.deepEqual(
    elf.segments.map((s) => [s.physical, s.data.length, s.memorySize]),
    [
      [0x8000_0000n, 4, 0x100n],
      [0x8000_1000n, 8, 8n],
    ],
  );
  assert.equal(elf.entry, 0x8000_1004n);
  assert.equal(elf.segments[0]!.data.buffer, bytes.buffer);
});

test('entry and symbols of a program linked elsewhere become physical', () => {
  const elf = parseElf(
    buildElf({
      entry: 0xffff_ffff_8000_0004n,
      segments: [{ address: 0x8020_0000n, virtual: 0xffff_ffff_8000_0000n, data: new Uint8Array(16) }],
      symbols: { inside: 0xffff_ffff_8000_0008n, outside: 0x1000n },
    }),
  );
  assert.equal(elf.entry, 0x8020_0004n);
  assert.equal(elf.lookup('inside'), 0x8020_0008n);
  assert.equal(elf.lookup('outside'), 0x1000n);
});

test('symbols are found by their whole name', () => {
  const symbols = { tohost: 0x8000_1000n, tohost_more: 1n, begin_signature: 0x8000_2000n };
  const elf = parseElf(buildElf({ segments: [{ address: 0x8000_0000n, data: code }], symbols }));
  assert.equal(elf.lookup('tohost'), 0x8000_1000n);
  assert.equal(elf.lookup('begin_signature'), 0x8000_2000n);
  assert.equal(elf.lookup('signature'), undefined);
  assert.equal(elf.lookup('begin_signatur'), undefined);
});

test('a file without sections has no symbols', () => {
  const elf = parseElf(changed((view) => view.setBigUint64(40, 0n, true)));
  assert.equal(elf.lookup('tohost'), undefined);
});

test('what is not an executable for this machine is named', () => {
  refused(new Uint8Array(0), /magic/);
  refused(good().subarray(0, 40), /truncated.*40 bytes/);
  refused(
    changed((view) => view.setUint8(4, 1)),
    /32-bit/,
  );
  refused(
    changed((view) => view.setUint8(5, 2)),
    /big-endian/,
  );
  refused(
    changed((view) => view.setUint16(18, 62, true)),
    /x86-64/,
  );
  refused(
    changed((view) => view.setUint16(18, 999, true)),
    /machine number 999/,
  );
  refused(
    changed((view) => view.setUint16(16, 1, true)),
    /relocatable/,
  );
  refused(
    changed((view) => view.setUint16(56, 0, true)),
    /no program headers/,
  );
  refused(
    changed((view) => view.setUint32(64, 3, true)),
    /dynamically linked/,
  );
  refused(
    changed((view) => view.setUint32(64, 4, true)),
    /no loadable segment/,
  );
});

test('offsets and sizes are checked', () => {
  refused(
    changed((view) => view.setBigUint64(32, 1n << 63n, true)),
    /program header table/,
  );
  refused(
    changed((view) => view.setUint16(56, 60000, true)),
    /program header table/,
  );
  refused(
    changed((view) => view.setUint16(54, 8, true)),
    /program headers are 8 bytes/,
  );
  refused(
    changed((view) => view.setBigUint64(64 + 8, 0xffff_ffff_ffff_fff0n, true)),
    /segment 0 at 0x80000000 needs/,
  );
  refused(
    changed((view) => view.setBigUint64(64 + 32, 65n, true)),
    /segment 0 at 0x80000000 has 0x41 bytes in the file, more than its 0x40 in memory/,
  );
  refused(
    changed((view) => view.setBigUint64(64 + 24, 0xffff_ffff_ffff_fff0n, true)),
    /wraps around/,
  );
  const two = { address: 0x8000_0000n, data: code, memorySize: 0x1001 };
  refused(
    buildElf({ segments: [two, { ...two, address: 0x8000_1000n }] }),
    /segment 0 \(0x80000000\.\.0x80001001\) and segment 1 \(0x80001000\.\.0x80002001\) overlap/,
  );
  refused(
    changed((view) => view.setUint16(56, 0xffff, true)),
    /65535 program headers or more/,
  );
});

test('the file is called what it is given as', () => {
  assert.throws(() => parseElf(good().subarray(0, 40), 'firmware'), /^BootError: firmware: it is truncated/);
});

test('many segments and many symbol tables cost no more than the file is long', () => {
  const segments = Array.from({ length: 1025 }, (_, n) => ({ address: 0x8000_0000n + BigInt(n) * 8n, data: code }));
  assert.equal(parseElf(buildElf({ segments: segments.slice(1) })).segments.length, 1024);
  refused(buildElf({ segments }), /more than 1024 loadable segments/);

  // 60,000 section headers, which all name the same 6 MiB of symbols: read once.
  const headers = 60_000;
  const [table, symbols] = [64 + 56, 6 * 2 ** 20];
  const bytes = new Uint8Array(table + headers * 64 + symbols);
  bytes.set(good().subarray(0, table));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(64 + 32, 0n, true);
  view.setBigUint64(40, BigInt(table), true);
  view.setUint16(60, headers, true);
  for (let n = 1; n < headers; n++) {
    const at = table + n * 64;
    view.setUint32(at + 4, 2, true);
    view.setBigUint64(at + 24, BigInt(table + headers * 64), true);
    view.setBigUint64(at + 32, BigInt(symbols), true);
  }
  const { user } = process.cpuUsage();
  assert.equal(parseElf(bytes).lookup('tohost'), undefined);
  assert.ok(process.cpuUsage().user - user < 5e6);
});

test('a damaged symbol table is found when it is used', () => {
  const bytes = good();
  const view = new DataView(bytes.buffer);
  const sections = Number(view.getBigUint64(40, true));
  view.setUint32(sections + 64 + 40, 9, true);
  const elf = parseElf(bytes);
  assert.throws(() => elf.lookup('tohost'), BootError);
});

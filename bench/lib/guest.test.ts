import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DEFAULT_APPEND, qemuArguments, readInitramfs, Scratch } from './guest.ts';

test('programs behind the root file system, as an archive of their own', () => {
  const content = Buffer.from('no program');
  const archive = Buffer.from(readInitramfs({ one: content, another: new Uint8Array(5) }));
  const start = Buffer.from(readInitramfs()).lastIndexOf('070701'); // where the empty archive's only header is
  assert.equal(start % 512, 0);

  const found: [string, number, string][] = [];
  for (let at = start; at < archive.length; ) {
    assert.equal(archive.toString('latin1', at, at + 6), '070701');
    const field = (n: number) => Number.parseInt(archive.toString('latin1', at + 6 + 8 * n, at + 14 + 8 * n), 16);
    const name = at + 110;
    const body = (name + field(11) + 3) & ~3;
    const end = body + field(6);
    found.push([
      archive.toString('latin1', name, name + field(11) - 1),
      field(1),
      archive.toString('latin1', body, end),
    ]);
    at = (end + 3) & ~3;
  }
  assert.deepEqual(found, [
    ['bin/one', 0o100755, 'no program'],
    ['bin/another', 0o100755, '\0'.repeat(5)],
    ['TRAILER!!!', 0, ''],
  ]);
});

test('a scratch folder goes away', () => {
  let path: string;
  {
    using scratch = new Scratch();
    path = scratch.write('file', Buffer.from('x'));
    assert.equal(readFileSync(path, 'latin1'), 'x');
  }
  assert.ok(!existsSync(path));
});

test("the peer's console is where the kernel's is", () => {
  const guest = { kernel: 'k', initrd: 'i', harts: 2, memory: 256 };
  assert.ok(qemuArguments({ ...guest, append: DEFAULT_APPEND }).includes('virtconsole,chardev=console'));
  const serial = qemuArguments({ ...guest, append: 'console=ttyS0', disk: 'd' });
  assert.ok(serial.includes('chardev:console') && serial.includes('virtio-blk-device,drive=disk'));
});

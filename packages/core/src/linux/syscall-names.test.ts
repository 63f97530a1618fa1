import assert from 'node:assert/strict';
import { test } from 'node:test';
import { syscallName, syscallNumber } from './syscall-names.ts';

test('system calls have the names that programs know them by', () => {
  const known = { 37: 'linkat', 39: 'umount2', 63: 'read', 93: 'exit', 129: 'kill', 172: 'getpid', 220: 'clone' };
  const later = { 259: 'riscv_flush_icache', 260: 'wait4', 278: 'getrandom', 293: 'rseq', 435: 'clone3', 462: 'mseal' };
  for (const [number, name] of Object.entries({ ...known, ...later })) {
    assert.equal(syscallName(Number(number)), name);
    assert.equal(syscallNumber(name), Number(number));
  }
  assert.equal(syscallName(244), 'syscall_244');
  assert.equal(syscallName(-1), 'syscall_-1');
  assert.equal(syscallNumber('no_such_call'), undefined);
});

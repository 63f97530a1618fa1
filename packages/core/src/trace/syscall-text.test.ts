/** System calls as lines and as records. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { callText, secondsText, syscallLine, syscallRecord } from './syscall-text.ts';
import type { SyscallDone, SyscallEnd } from './syscalls.ts';

const doer = { pid: 12, tgid: 11, comm: 'sh', hart: 1 };
const call: SyscallDone = {
  ...doer,
  kind: 'call',
  number: 63,
  name: 'read',
  args: [3n, 0xffffffff00000000n, 100n, 0n, 0n, 0n],
  shown: ['3', '"x\\n"', '100'],
  pc: 0x10000n,
  from: { at: 2n ** 60n, time: 1_000_000_001n },
  to: { at: 2n ** 60n + 5n, time: 1_000_002_001n },
  end: { kind: 'returned', value: 2n },
};
const ended = (end: SyscallEnd): SyscallDone => ({ ...call, end });

describe('system calls as text', () => {
  test('lines', () => {
    assert.equal(syscallLine(call), '[sh 12] 1.000000001 read(3, "x\\n", 100) = 2 <0.000002000>');
    assert.equal(
      callText(ended({ kind: 'returned', value: -4n })),
      'read(3, "x\\n", 100) = -1 EINTR (Interrupted system call)',
    );
    assert.equal(callText(ended({ kind: 'returned', value: -4096n })), 'read(3, "x\\n", 100) = -4096');
    assert.equal(callText(ended({ kind: 'restarted' })), 'read(3, "x\\n", 100) = ? (to be restarted)');
    assert.equal(syscallLine(ended({ kind: 'exited' })), '[sh 12] 1.000000001 read(3, "x\\n", 100) = ?');
    assert.match(syscallLine(ended({ kind: 'unfinished' })), / = \? <unfinished \.\.\.> <0\.000002000>$/);
    assert.equal(callText({ ...call, name: 'brk', shown: ['NULL'] }), 'brk(NULL) = 0x2');
    const at = call.from;
    assert.equal(
      syscallLine({ ...doer, kind: 'exit', at, code: 3, signal: 0 }),
      '[sh 12] 1.000000001 +++ exited with 3 +++',
    );
    assert.equal(
      syscallLine({ ...doer, kind: 'exit', at, code: 0, signal: 9 }),
      '[sh 12] 1.000000001 +++ killed by SIGKILL +++',
    );
    const signal = { number: 14, code: 128, fields: { first: 0, second: 0, third: 0, address: 0n } };
    assert.equal(
      syscallLine({ ...doer, kind: 'signal', at, signal }),
      '[sh 12] 1.000000001 --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---',
    );
    assert.equal(secondsText(5n), '0.000000005');
  });

  test('a name that would act on a terminal does not', () => {
    const exit = { ...doer, comm: 'a\x1b[2J\n\udcff', kind: 'exit', at: call.from, code: 3, signal: 0 } as const;
    assert.equal(syscallLine(exit), '[a\\x1b[2J\\n\\xff 12] 1.000000001 +++ exited with 3 +++');
    assert.equal(syscallRecord(exit).comm, exit.comm);
    assert.equal(syscallLine({ ...exit, comm: '' }), '[ 12] 1.000000001 +++ exited with 3 +++');
  });

  test('records keep every digit', () => {
    assert.deepEqual(JSON.parse(JSON.stringify(syscallRecord(ended({ kind: 'returned', value: -2n })))), {
      kind: 'call',
      pid: 12,
      tgid: 11,
      comm: 'sh',
      hart: 1,
      name: 'read',
      number: 63,
      args: ['0x3', '0xffffffff00000000', '0x64', '0x0', '0x0', '0x0'],
      shown: ['3', '"x\\n"', '100'],
      pc: '0x10000',
      at: '1152921504606846976',
      time: '1000000001',
      duration: '2000',
      end: 'returned',
      result: '-2',
      error: 'ENOENT',
    });
    const exit = syscallRecord({ ...doer, kind: 'exit', at: call.from, code: 0, signal: 11 });
    assert.deepEqual([exit.signal, exit.code, exit.time], ['SIGSEGV', undefined, '1000000001']);
  });
});

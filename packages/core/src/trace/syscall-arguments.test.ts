/** Arguments of system calls as text, from a memory that is made up. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { syscallName } from '../linux/syscall-names.ts';
import { runs } from '../testing/machines.ts';
import { errorText, signalName } from './errno.ts';
import { bitsText, choiceText, openText } from './flags.ts';
import { argumentsAtCall, argumentsAtReturn, quoted, type ReadMemory, resultText } from './syscall-arguments.ts';

const LIMITS = { string: 8, elements: 3 };

/** Bytes at addresses; what is between them is not mapped. */
function memoryOf(parts: readonly (readonly [address: number, bytes: Uint8Array | string])[]): ReadMemory {
  return (address, length) => {
    for (const [from, what] of parts) {
      const bytes = typeof what === 'string' ? new TextEncoder().encode(what) : what;
      const offset = Number(address) - from;
      if (offset >= 0 && offset < bytes.length) return bytes.slice(offset, offset + length);
    }
    return new Uint8Array(0);
  };
}

const words = (...values: (number | bigint)[]) => new Uint8Array(BigUint64Array.from(values, BigInt).buffer);

function show(name: string, args: (number | bigint)[], memory: ReadMemory, result?: number): string {
  const six = Array.from({ length: 6 }, (_, n) => BigInt.asUintN(64, BigInt(args[n] ?? 0)));
  const texts = argumentsAtCall(name, six, memory, LIMITS);
  return argumentsAtReturn(name, six, texts, result === undefined ? undefined : BigInt(result), memory, LIMITS).join(
    ', ',
  );
}

describe('arguments of system calls', () => {
  const text = memoryOf([
    [0x1000, '/etc/passwd\0'],
    [0x2000, 'a line\nand more'],
    [0x3000, words(0x1000, 0x2000, 0x9999, 0)],
    [0x4000, words(0x2000, 4, 0x2004, 100)],
    [0x5000, words(0x1000, 0x1000, 0x1000, 0x1000, 0)],
  ]);

  const cases: readonly (readonly [string, (number | bigint)[], number | undefined, string])[] = [
    ['openat', [-100, 0x1000, 0x80000, 0o640], 3, 'AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC'],
    ['openat', [4, 0x1000, 0x241, 0o640], 3, '4, "/etc/passwd", O_WRONLY|O_CREAT|O_TRUNC, 0640'],
    ['openat', [-100, 0x7777, 0, 0], undefined, 'AT_FDCWD, 0x7777, O_RDONLY'],
    ['read', [0, 0x2000, 100], 6, '0, "a line", 100'],
    ['read', [0, 0x2000, 100], 15, '0, "a line\\na"..., 100'],
    ['read', [0, 0x2000, 100], undefined, '0, 0x2000, 100'],
    ['write', [1, 0x2000, 7], 7, '1, "a line\\n", 7'],
    ['write', [1, 0x2000, 4096], undefined, '1, "a line\\na"..., 4096'],
    ['write', [1, 0x7777, 7], undefined, '1, 0x7777, 7'],
    ['writev', [1, 0x4000, 2], 9, '1, [{iov_base="a li", iov_len=4}, {iov_base="ne\\nand m"..., iov_len=100}], 2'],
    ['readv', [1, 0x4000, 2], 6, '1, [{iov_base="a li", iov_len=4}, {iov_base="ne", iov_len=100}], 2'],
    [
      'execve',
      [0x1000, 0x3000, 0x3000],
      undefined,
      '"/etc/passwd", ["/etc/pas"..., "a line\\na"..., 0x9999], 0x3000 /* 3 vars */',
    ],
    [
      'execve',
      [0x1000, 0x5000, 0],
      undefined,
      '"/etc/passwd", ["/etc/pas"..., "/etc/pas"..., "/etc/pas"..., ...], NULL',
    ],
    ['mmap', [0, 8192, 3, 0x22, -1, 0], 4096, 'NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0'],
    ['mprotect', [0x10000, 4096, 0x40000001], 0, '0x10000, 4096, PROT_READ|0x40000000'],
    ['exit_group', [-1], undefined, '-1'],
    ['kill', [-5, 15], 0, '-5, SIGTERM'],
    ['clone', [0x1200011, 0, 0, 0, 0], 7, 'CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, NULL, NULL, 0, NULL'],
    ['futex', [0x1000, 0x80, 1, 0, 0, 0], 0, '0x1000, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0'],
    ['fcntl', [3, 1, 77], 0, '3, F_GETFD'],
    ['fcntl', [3, 2, 1], 0, '3, F_SETFD, FD_CLOEXEC'],
    ['syscall_4000', [1, 2, 0, 0xff], 0, '0x1, 0x2, 0, 0xff, 0, 0'],
    ['prctl', [15, 0x1000, 0, 0, 0], 0, 'PR_SET_NAME, "/etc/passwd", 0, 0, 0'],
    ['prctl', [38, 1, 0, 0, 0], 0, 'PR_SET_NO_NEW_PRIVS, 0x1, 0, 0, 0'],
    ['getpid', [1, 2, 3], 0, ''],
  ];
  for (const [name, args, result, expected] of cases) {
    test(`${name}: ${expected}`, () => assert.equal(show(name, args, text, result), expected));
  }

  test('structures that the kernel fills are shown after the call, and as addresses when it failed', () => {
    const status = (value: number) => memoryOf([[0x1000, words(value)]]);
    assert.equal(
      show('wait4', [9, 0x1000, 1, 0], status(0x300), 9),
      '9, {WIFEXITED(s) && WEXITSTATUS(s) == 3}, WNOHANG, NULL',
    );
    assert.equal(
      show('wait4', [9, 0x1000, 0, 0], status(11), 9),
      '9, {WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV}, 0, NULL',
    );
    assert.equal(show('wait4', [9, 0x1000, 1, 0], status(11), 0), '9, 0x1000, WNOHANG, NULL');
    assert.equal(show('wait4', [9, 0x1000, 1, 0], status(11)), '9, 0x1000, WNOHANG, NULL');
    assert.equal(show('pipe2', [0x1000, 0x80000], status(0), 0), '[0, 0], O_CLOEXEC');
    const stat = new Uint8Array(128);
    new DataView(stat.buffer).setUint32(16, 0o100640, true);
    new DataView(stat.buffer).setUint32(48, 77, true);
    assert.equal(
      show('fstat', [3, 0x1000], memoryOf([[0x1000, stat]]), 0),
      '3, {st_mode=S_IFREG|0640, st_size=77, ...}',
    );
  });

  test('what was not there at the call is read at its end, unless another program is there then', () => {
    const args = [0xffffffffffffff9cn, 0x1000n, 0n, 0n, 0n, 0n];
    const before = argumentsAtCall('openat', args, memoryOf([]), LIMITS);
    assert.deepEqual(before, ['AT_FDCWD', undefined, 'O_RDONLY', '']);
    assert.deepEqual(argumentsAtReturn('openat', args, before, -2n, text, LIMITS), [
      'AT_FDCWD',
      '"/etc/passwd"',
      'O_RDONLY',
    ]);
    assert.deepEqual(argumentsAtReturn('openat', args, before, 0n, undefined, LIMITS), [
      'AT_FDCWD',
      '0x1000',
      'O_RDONLY',
    ]);
  });

  test('bytes are shown as strace shows them', () => {
    const bytes = Uint8Array.of(0, 0x31, 1, 0x39, 0x22, 0x5c, 9, 10, 13, 11, 12, 27, 127, 255);
    assert.equal(quoted(bytes), '"\\0001\\19\\"\\\\\\t\\n\\r\\v\\f\\33\\177\\377"');
  });

  test('names of errors, signals, bits and choices', () => {
    assert.equal(errorText(2), 'ENOENT (No such file or directory)');
    assert.equal(errorText(11), 'EAGAIN (Resource temporarily unavailable)');
    assert.equal(errorText(4000), 'E4000');
    assert.deepEqual([1, 11, 17, 31, 32, 34, 64, 65, 0].map(signalName), [
      'SIGHUP',
      'SIGSEGV',
      'SIGCHLD',
      'SIGSYS',
      'SIGRTMIN',
      'SIGRT_2',
      'SIGRT_32',
      '65',
      '0',
    ]);
    assert.equal(bitsText('prot', 0n), '0');
    assert.equal(bitsText('map', 3n), 'MAP_SHARED_VALIDATE');
    assert.equal(openText(0x101002n), 'O_RDWR|O_SYNC');
    assert.equal(choiceText('who', 0xffffffffn), 'RUSAGE_CHILDREN');
    assert.equal(choiceText('whence', 77n), '0x4d');
    assert.equal(resultText('mmap', 0x7fff000n), '0x7fff000');
    assert.equal(resultText('umask', 0o22n), '022');
    assert.equal(resultText('read', 5n), '5');
  });

  test('whatever a program passes, what is shown is short and in ASCII', () => {
    const name = fc.integer({ min: 0, max: 470 }).map(syscallName);
    const word = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 0x2000n }));
    const args = fc.array(word, { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(name, args, fc.uint8Array({ minLength: 8, maxLength: 64 }), word, (call, values, pattern, result) => {
        let read = 0;
        const memory: ReadMemory = (address, length) => {
          read += length;
          const there = address % 3n === 0n ? 0 : length;
          return Uint8Array.from(
            { length: there },
            (_, n) => pattern[(Number(address & 0xffffn) + n) % pattern.length]!,
          );
        };
        const before = argumentsAtCall(call, values, memory, LIMITS);
        const shown = argumentsAtReturn(call, values, before, result >> 40n ? undefined : result, memory, LIMITS);
        assert.match(shown.join(', '), /^[\x20-\x7e]*$/);
        assert.ok(shown.length <= 6 && shown.join('').length < 40_000 && read < 200_000);
      }),
      runs(2000),
    );
  });
});

/**
 * Arguments of system calls as text, in strace's manner. What each argument of a call is stands in a table; calls that are not in
 * it have six hexadecimal numbers.
 *
 * Everything here is the guest's to forge: what is read from its memory is bounded, what is shown is ASCII.
 */

import { signalName } from './errno.ts';
import { type BitsName, bitsText, type ChoiceName, choiceText, hexOf, openText } from './flags.ts';

/** The calling process's memory. What is not mapped is cut off. */
export type ReadMemory = (address: bigint, length: number) => Uint8Array;

export interface ArgumentLimits {
  /** Bytes shown of a string or buffer. */
  readonly string: number;
  /** Elements shown of an array. */
  readonly elements: number;
}

/** What a call has told by the time that an argument is shown. */
interface Context {
  readonly args: readonly bigint[];
  readonly limits: ArgumentLimits;
  readonly memory: ReadMemory;
  /** The result, once the call has returned without an error. */
  readonly result: bigint | undefined;
}

/** An argument as text; undefined when the memory that it points to is not there. */
type Show = (value: bigint, context: Context, parameter: string) => string | undefined;

interface Kind {
  readonly show: Show;
  /** Written by the kernel: shown once the call has returned. */
  readonly late?: true;
}

const MAX_PATH = 4096;
const PAGE = 4096;
const NO_FD = -100n;

export const pointerText = (value: bigint): string => (value === 0n ? 'NULL' : hexOf(value));
/** As C prints `%#lx`. */
const plainHex = (value: bigint): string => (value === 0n ? '0' : hexOf(value));
const int = (value: bigint): string => BigInt.asIntN(32, value).toString();
const octal = (value: bigint): string => (value === 0n ? '0' : `0${value.toString(8)}`);

const NAMED = new Map([
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [9, '\\t'],
  [10, '\\n'],
  [11, '\\v'],
  [12, '\\f'],
  [13, '\\r'],
]);

/** Bytes as a C string: in ASCII, with octal escapes. */
export function quoted(bytes: Uint8Array, cut = false): string {
  let text = '"';
  for (const [i, byte] of bytes.entries()) {
    const named = NAMED.get(byte);
    if (named) text += named;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else {
      // A digit behind would be taken for part of the number.
      const next = bytes[i + 1];
      const digit = next !== undefined && next >= 0x30 && next <= 0x37;
      text += `\\${byte.toString(8).padStart(digit ? 3 : 1, '0')}`;
    }
  }
  return `${text}"${cut ? '...' : ''}`;
}

/** A string of the guest, up to its NUL; `undefined` when it is not there. */
function stringAt(address: bigint, { memory }: Context, limit: number): string | undefined {
  const all: Uint8Array = memory(address, Math.min(limit + 1, MAX_PATH));
  const end = all.indexOf(0);
  if (end >= 0) return quoted(all.subarray(0, end));
  return all.length > limit ? quoted(all.subarray(0, limit), true) : undefined;
}

function dataAt(address: bigint, length: bigint, { memory, limits }: Context): string | undefined {
  if (length <= 0n) return '""';
  const wanted = length > BigInt(limits.string) ? limits.string : Number(length);
  const bytes = memory(address, wanted);
  return bytes.length < wanted ? undefined : quoted(bytes, BigInt(wanted) < length);
}

/** The fields of a structure, once its bytes are there. */
function structure(size: number, show: (view: DataView) => string): Show {
  return (value, { memory }) => {
    if (value === 0n) return 'NULL';
    const bytes = memory(value, size);
    return bytes.length < size ? undefined : show(new DataView(bytes.buffer, bytes.byteOffset, size));
  };
}

/** An array's elements as far as they are shown. */
function elements(
  value: bigint,
  count: bigint,
  size: number,
  context: Context,
  show: (view: DataView) => string | undefined,
): string | undefined {
  if (value === 0n) return 'NULL';
  if (count <= 0n) return '[]';
  const shown = count > BigInt(context.limits.elements) ? context.limits.elements : Number(count);
  const bytes = context.memory(value, shown * size);
  if (bytes.length < shown * size) return undefined;
  const texts = Array.from({ length: shown }, (_, i) =>
    show(new DataView(bytes.buffer, bytes.byteOffset + i * size, size)),
  );
  if (texts.includes(undefined)) return undefined;
  return `[${texts.join(', ')}${count > BigInt(shown) ? ', ...' : ''}]`;
}

const seconds = (view: DataView, at: number, fraction: string): string =>
  `{tv_sec=${view.getBigInt64(at, true)}, ${fraction}=${view.getBigInt64(at + 8, true)}}`;

const FILE_TYPES: Readonly<Record<number, string>> = {
  1: 'S_IFIFO',
  2: 'S_IFCHR',
  4: 'S_IFDIR',
  6: 'S_IFBLK',
  8: 'S_IFREG',
  10: 'S_IFLNK',
  12: 'S_IFSOCK',
};

function modeText(mode: number): string {
  const type = FILE_TYPES[mode >>> 12];
  const rest = octal(BigInt(mode & 0o7777)).padStart(4, '0');
  return type ? `${type}|${rest}` : octal(BigInt(mode));
}

/** How a process ended, as `wait` gives it. */
function waitText(status: number): string {
  const signal = status & 0x7f;
  if (signal === 0) return `{WIFEXITED(s) && WEXITSTATUS(s) == ${(status >>> 8) & 255}}`;
  if (signal === 0x7f) return `{WIFSTOPPED(s) && WSTOPSIG(s) == ${signalName((status >>> 8) & 255)}}`;
  return `{WIFSIGNALED(s) && WTERMSIG(s) == ${signalName(signal)}${status & 0x80 ? ' && WCOREDUMP(s)' : ''}}`;
}

function signalSet(set: bigint): string {
  const members: number[] = [];
  for (let n = 1; n <= 64; n++) if ((set >> BigInt(n - 1)) & 1n) members.push(n);
  // As strace: what is missing, where nearly all are there.
  if (members.length === 64) return '~[]';
  const names = (list: readonly number[]) => list.map((n) => signalName(n).replace(/^SIG/, '')).join(' ');
  if (members.length <= 32) return `[${names(members)}]`;
  return `~[${names(Array.from({ length: 64 }, (_, i) => i + 1).filter((n) => !members.includes(n)))}]`;
}

function addressText(bytes: Uint8Array): string | undefined {
  if (bytes.length < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = view.getUint16(0, true);
  const head = `{sa_family=${choiceText('family', BigInt(family))}`;
  if (family === 1) {
    const path = bytes.subarray(2);
    const end = path.indexOf(0, 1);
    return `${head}, sun_path=${quoted(end < 0 ? path : path.subarray(0, end))}}`;
  }
  if (family === 2 && bytes.length >= 8) {
    return `${head}, sin_port=htons(${view.getUint16(2)}), sin_addr=inet_addr("${bytes.subarray(4, 8).join('.')}")}`;
  }
  return `${head}, sa_data=${quoted(bytes.subarray(2))}}`;
}

function vector(of: 'in' | 'out'): Show {
  return (value, context, parameter) => {
    // What was read fills the buffers in order.
    let left = of === 'out' ? (context.result ?? 0n) : undefined;
    return elements(value, context.args[Number(parameter)]!, 16, context, (view) => {
      const [base, length] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
      const there = left === undefined || left > length ? length : left;
      if (left !== undefined) left -= there;
      const data = dataAt(base, there, context);
      return data === undefined ? undefined : `{iov_base=${data}, iov_len=${length}}`;
    });
  };
}

function strings(value: bigint, context: Context): string | undefined {
  if (value === 0n) return 'NULL';
  const texts: string[] = [];
  for (let n = 0; n <= context.limits.elements; n++) {
    const slot = context.memory(value + BigInt(8 * n), 8);
    if (slot.length < 8) return undefined;
    const address = new DataView(slot.buffer, slot.byteOffset).getBigUint64(0, true);
    if (address === 0n) return `[${texts.join(', ')}]`;
    if (n === context.limits.elements) break;
    texts.push(stringAt(address, context, context.limits.string) ?? hexOf(address));
  }
  return `[${texts.join(', ')}, ...]`;
}

/** The address and how many variables there are, as far as they can be counted. */
function environment(value: bigint, { memory }: Context): string {
  for (let n = 0; value !== 0n && n < PAGE; n++) {
    const slot = memory(value + BigInt(8 * n), 8);
    if (slot.length < 8) break;
    if (slot.every((byte) => byte === 0)) return `${hexOf(value)} /* ${n} var${n === 1 ? '' : 's'} */`;
  }
  return pointerText(value);
}

const KINDS = {
  int: { show: int },
  uint: { show: (value) => BigInt.asUintN(32, value).toString() },
  long: { show: (value) => BigInt.asIntN(64, value).toString() },
  size: { show: (value) => value.toString() },
  hex: { show: plainHex },
  ptr: { show: pointerText },
  fd: { show: int },
  dirfd: { show: (value) => (BigInt.asIntN(32, value) === NO_FD ? 'AT_FDCWD' : int(value)) },
  path: { show: (value, context) => (value === 0n ? 'NULL' : stringAt(value, context, MAX_PATH - 1)) },
  string: { show: (value, context) => (value === 0n ? 'NULL' : stringAt(value, context, context.limits.string)) },
  /** A buffer; its length is the argument of that number. */
  in: {
    show: (value, context, length) => (value === 0n ? 'NULL' : dataAt(value, context.args[Number(length)]!, context)),
  },
  /** A buffer that holds as much as the result says. */
  out: { show: (value, context) => (value === 0n ? 'NULL' : dataAt(value, context.result ?? 0n, context)), late: true },
  /** A string whose length with its NUL is the result. */
  outstring: { show: (value, context) => dataAt(value, (context.result ?? 1n) - 1n, context), late: true },
  vecin: { show: vector('in') },
  vecout: { show: vector('out'), late: true },
  argv: { show: strings },
  envp: { show: environment },
  open: { show: openText },
  /** Only where a file may be made. */
  openmode: {
    show: (value, { args }) => ((args[2]! & 0x40n) !== 0n || (args[2]! & 0x410000n) === 0x410000n ? octal(value) : ''),
  },
  mode: { show: (value) => octal(BigInt.asUintN(32, value)) },
  nodemode: { show: (value) => modeText(Number(BigInt.asUintN(16, value))) },
  bits: { show: (value, _, name) => bitsText(name as BitsName, BigInt.asUintN(32, value)) },
  choice: { show: (value, _, name) => choiceText(name as ChoiceName, value) },
  prot: { show: (value) => (value === 0n ? 'PROT_NONE' : bitsText('prot', value)) },
  access: { show: (value) => (value === 0n ? 'F_OK' : bitsText('access', value)) },
  sig: { show: (value) => signalName(Number(BigInt.asIntN(32, value))) },
  clone: {
    show: (value) => {
      const flags = value & 0xffff_ff00n;
      const signal = signalName(Number(value & 255n));
      if ((value & 255n) === 0n) return bitsText('clone', flags);
      return flags === 0n ? signal : `${bitsText('clone', flags)}|${signal}`;
    },
  },
  futexop: {
    show: (value) => {
      const flags = `${value & 128n ? '_PRIVATE' : ''}${value & 256n ? '|FUTEX_CLOCK_REALTIME' : ''}`;
      return `${choiceText('futexop', value & 127n)}${flags}`;
    },
  },
  fcntlarg: {
    show: (value, { args }) => {
      if (args[1] === 2n) return value === 1n ? 'FD_CLOEXEC' : plainHex(value);
      if (args[1] === 4n) return openText(value);
      return args[1] === 1n || args[1] === 3n || args[1] === 9n
        ? ''
        : args[1] === 0n || args[1]! >= 1030n
          ? int(value)
          : hexOf(value);
    },
  },
  action: { show: structure(24, actionText) },
  actionout: { show: structure(24, actionText), late: true },
  /** The name that a thread gives itself, or whatever it is. */
  prctlarg: {
    show: (value, context) => (context.args[0] === 15n ? stringAt(value, context, 16) : plainHex(value)),
  },
  sigset: { show: structure(8, (view) => signalSet(view.getBigUint64(0, true))) },
  sigsetout: { show: structure(8, (view) => signalSet(view.getBigUint64(0, true))), late: true },
  timespec: { show: structure(16, (view) => seconds(view, 0, 'tv_nsec')) },
  timespecout: { show: structure(16, (view) => seconds(view, 0, 'tv_nsec')), late: true },
  timevalout: { show: structure(16, (view) => seconds(view, 0, 'tv_usec')), late: true },
  itimer: {
    show: structure(
      32,
      (view) => `{it_interval=${seconds(view, 0, 'tv_usec')}, it_value=${seconds(view, 16, 'tv_usec')}}`,
    ),
  },
  stat: {
    show: structure(128, (view) => {
      const mode = view.getUint32(16, true);
      const device = mode >>> 12 === 2 || mode >>> 12 === 6;
      const number = view.getBigUint64(32, true);
      const makedev = `makedev(${hexOf((number >> 8n) & 0xfffn)}, ${hexOf(number & 0xffn)})`;
      const what = device ? `st_rdev=${makedev}` : `st_size=${view.getBigInt64(48, true)}`;
      return `{st_mode=${modeText(mode)}, ${what}, ...}`;
    }),
    late: true,
  },
  fds: { show: structure(8, (view) => `[${view.getInt32(0, true)}, ${view.getInt32(4, true)}]`), late: true },
  wstatus: {
    show: (value, context, parameter) => {
      // Nobody was waited for.
      if (context.result === 0n && value !== 0n) return pointerText(value);
      return structure(4, (view) => waitText(view.getInt32(0, true)))(value, context, parameter);
    },
    late: true,
  },
  limit: { show: structure(16, limits) },
  limitout: { show: structure(16, limits), late: true },
  poll: {
    show: (value, context, count) =>
      elements(
        value,
        context.args[Number(count)]!,
        8,
        context,
        (view) => `{fd=${view.getInt32(0, true)}, events=${bitsText('poll', BigInt(view.getUint16(4, true)))}}`,
      ),
  },
  address: {
    show: (value, { memory, args }, length) => {
      const wanted = Number(BigInt.asUintN(8, args[Number(length)]!));
      const bytes = memory(value, wanted);
      return value === 0n ? 'NULL' : bytes.length < wanted ? undefined : addressText(bytes);
    },
  },
  socktype: {
    show: (value) => {
      const flags = value & 0x80800n;
      const kind = choiceText('sockkind', value & ~0x80800n);
      return flags === 0n ? kind : bitsText('socktype', flags, kind);
    },
  },
  utsname: {
    show: (value, context) => {
      const bytes = context.memory(value, 3 * 65);
      if (bytes.length < 3 * 65) return undefined;
      const field = (at: number) => quoted(bytes.subarray(at, bytes.indexOf(0, at)));
      return `{sysname=${field(0)}, nodename=${field(65)}, ...}`;
    },
    late: true,
  },
} as const satisfies Record<string, Kind>;

function actionText(view: DataView): string {
  const handler = view.getBigUint64(0, true);
  const name = handler === 0n ? 'SIG_DFL' : handler === 1n ? 'SIG_IGN' : hexOf(handler);
  const flags = bitsText('action', view.getBigUint64(8, true));
  return `{sa_handler=${name}, sa_mask=${signalSet(view.getBigUint64(16, true))}, sa_flags=${flags}}`;
}

function limits(view: DataView): string {
  const one = (at: number) => {
    const value = view.getBigUint64(at, true);
    if (value === 2n ** 64n - 1n) return 'RLIM64_INFINITY';
    return value >= 1024n && value % 1024n === 0n ? `${value / 1024n}*1024` : `${value}`;
  };
  return `{rlim_cur=${one(0)}, rlim_max=${one(8)}}`;
}

/** Name, arguments, and `=hex` where the result is an address. */
const TABLE = `
accept fd ptr ptr; accept4 fd ptr ptr bits:socktype; bind fd address:2 int; brk ptr =hex; capget ptr ptr; chdir path; chroot path;
clock_getres choice:clock timespecout; clock_gettime choice:clock timespecout; clock_nanosleep choice:clock bits:timer timespec ptr;
clone clone ptr ptr hex ptr; clone3 ptr size; close fd; close_range uint uint hex; connect fd address:2 int; copy_file_range fd ptr fd ptr size hex;
dup fd; dup3 fd fd bits:fd; epoll_create1 bits:epoll; epoll_ctl fd choice:epollop fd ptr; epoll_pwait fd ptr int int ptr size;
eventfd2 uint bits:eventfd; execve path argv envp; execveat dirfd path argv envp bits:at; exit int; exit_group int;
faccessat dirfd path access; faccessat2 dirfd path access bits:eaccess; fadvise64 fd long long int; fallocate fd hex long long;
fchdir fd; fchmod fd mode; fchmodat dirfd path mode; fchown fd int int; fchownat dirfd path int int bits:at; fcntl fd choice:fcntl fcntlarg;
fdatasync fd; flock fd hex; fstat fd stat; fstatfs fd ptr; fsync fd; ftruncate fd long; futex ptr futexop int ptr ptr hex; getcwd outstring size;
getdents64 fd ptr size; getegid; geteuid; getgid; getgroups int ptr; getitimer choice:timerkind ptr; getpeername fd ptr ptr; getpgid int; getpid;
getppid; getpriority int int; getrandom out size bits:random; getresgid ptr ptr ptr; getresuid ptr ptr ptr; getrusage choice:who ptr;
getsid int; getsockname fd ptr ptr; getsockopt fd int int ptr ptr; gettid; gettimeofday timevalout ptr; getuid; ioctl fd choice:ioctl hex;
kill int sig; linkat dirfd path dirfd path bits:at; listen fd int; lseek fd long choice:whence; madvise ptr size choice:advice;
memfd_create string bits:memfd; membarrier hex hex int; mkdirat dirfd path mode; mknodat dirfd path nodemode hex;
mlock ptr size; mmap ptr size prot bits:map fd hex =hex; mount path path string bits:mount ptr; mprotect ptr size prot;
mremap ptr size size bits:mremap ptr =hex; msync ptr size bits:msync; munmap ptr size; nanosleep timespec ptr; newfstatat dirfd path stat bits:at;
openat dirfd path open openmode; openat2 dirfd path ptr size; pipe2 fds bits:pipe; pivot_root path path; ppoll poll:1 uint timespec sigset size;
prctl choice:prctl prctlarg hex hex hex; pread64 fd out size long; preadv fd vecout:2 int long; prlimit64 int choice:resource limit limitout;
pselect6 int ptr ptr ptr timespec ptr; pwrite64 fd in:2 size long; pwritev fd vecin:2 int long; read fd out size; readahead fd long size;
readlinkat dirfd path out size; readv fd vecout:2 int; reboot hex hex hex ptr; recvfrom fd out size bits:message ptr ptr;
recvmsg fd ptr bits:message; renameat2 dirfd path dirfd path bits:rename; riscv_flush_icache ptr ptr hex; riscv_hwprobe ptr size size ptr hex;
rseq ptr uint hex hex; rt_sigaction sig action actionout size; rt_sigpending sigsetout size; rt_sigprocmask choice:sighow sigset sigsetout size;
rt_sigreturn; rt_sigsuspend sigset size; rt_sigtimedwait sigset ptr timespec size; sched_getaffinity int size ptr; sched_setaffinity int size ptr;
sched_yield; sendfile fd fd ptr size; sendmsg fd ptr bits:message; sendto fd in:2 size bits:message address:5 int; set_robust_list ptr size;
set_tid_address ptr; setgid int; setgroups int ptr; sethostname string size; setitimer choice:timerkind itimer ptr; setpgid int int;
setpriority int int int; setregid int int; setresgid int int int; setresuid int int int; setreuid int int; setsid; setsockopt fd int int ptr int;
setuid int; shutdown fd choice:shut; sigaltstack ptr ptr; socket choice:family socktype int; socketpair choice:family socktype int fds;
splice fd ptr fd ptr size hex; statfs path ptr; statx dirfd path bits:at hex ptr; symlinkat path dirfd path; sync; syncfs fd; sysinfo ptr;
tgkill int int sig; times ptr; tkill int sig; truncate path long; umask mode =octal; umount2 path bits:umount; uname utsname; unlinkat dirfd path bits:at;
unshare bits:clone; utimensat dirfd path ptr bits:at; wait4 int wstatus bits:wait ptr; waitid int int ptr bits:wait ptr;
write fd in:2 size; writev fd vecin:2 int`;

interface Argument extends Kind {
  readonly parameter: string;
}

interface Signature {
  readonly args: readonly Argument[];
  readonly result: 'decimal' | 'hex' | 'octal';
}

const SIGNATURES: ReadonlyMap<string, Signature> = new Map(
  TABLE.split(';').map((line) => {
    const [name, ...words] = line.trim().split(/\s+/);
    const last = words.at(-1);
    const result = last === '=hex' ? 'hex' : last === '=octal' ? 'octal' : 'decimal';
    const args = words
      .filter((word) => !word.startsWith('='))
      .map((word): Argument => {
        const [kind, parameter = ''] = word.split(':');
        const known: Kind = KINDS[kind as keyof typeof KINDS];
        return { ...known, parameter };
      });
    return [name!, { args, result }];
  }),
);

const UNKNOWN: Signature = { args: new Array(6).fill({ ...KINDS.hex, parameter: '' }), result: 'decimal' };

const signatureOf = (name: string): Signature => SIGNATURES.get(name) ?? UNKNOWN;

/** Arguments as text at the call: undefined for those that are known once it has returned, or whose memory is not there yet. */
export function argumentsAtCall(
  name: string,
  args: readonly bigint[],
  memory: ReadMemory,
  limits: ArgumentLimits,
): (string | undefined)[] {
  const context: Context = { args, memory, limits, result: undefined };
  return signatureOf(name).args.map(({ show, late, parameter }, i) =>
    late ? undefined : show(args[i]!, context, parameter),
  );
}

/**
 * The rest of the arguments, once the call has returned with `result`; without one it has failed, or never will return: then what the
 * kernel would have written is shown as an address. Without `memory` (another program is there now) so is what was missing.
 */
export function argumentsAtReturn(
  name: string,
  args: readonly bigint[],
  texts: readonly (string | undefined)[],
  result: bigint | undefined,
  memory: ReadMemory | undefined,
  limits: ArgumentLimits,
): string[] {
  const context = memory && { args, memory, limits, result };
  const shown = signatureOf(name).args.map(({ show, late, parameter }, i) => {
    const now = context && (!late || result !== undefined) ? show(args[i]!, context, parameter) : undefined;
    return texts[i] ?? now ?? pointerText(args[i]!);
  });
  // An optional last one that is not there.
  return shown.filter((text) => text !== '');
}

/** A result that is no error. */
export function resultText(name: string, value: bigint): string {
  const { result } = signatureOf(name);
  if (result === 'hex') return hexOf(value);
  return result === 'octal' ? octal(value) : BigInt.asIntN(64, value).toString();
}

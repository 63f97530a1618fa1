/**
 * Calls of guest functions by the host, in a diversion: the machine that is asked stays as it is.
 *
 * The function is called as the code that the hart is about to execute could call it (RISC-V psABI, integer calling convention): in its
 * process, on its stack, with its privilege. In a kernel that may mean with its locks held; nothing prevents it, since nothing lasts.
 */

import { readGuest } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { patchMemory } from '../machine/patch.ts';
import { PAGE } from '../memory/layout.ts';
import type { CapturedOutput } from './captured-output.ts';
import { Diversion, type DiversionOptions } from './diversion.ts';
import { isThreadOf } from './guest-thread.ts';

/** A number, or bytes to which the function gets a pointer; a text ends with a 0. */
export type CallArgument = bigint | string | Uint8Array;

export interface CallOptions<T = undefined> extends DiversionOptions {
  /** Looks at the machine when the function has returned, before it is gone. */
  readonly inspect?: (machine: Machine) => T;
}

export interface CallResult<T = undefined> {
  /** a0, and a1 for a function that gives two. */
  readonly result: bigint;
  readonly second: bigint;
  readonly output: CapturedOutput;
  /** Steps of all harts. */
  readonly steps: bigint;
  /** What `inspect` gave. */
  readonly inspected: T;
}

const [RA, SP, A0, A1] = [1, 2, 10, 11];
const MAX_ARGUMENTS = 8;
const MAX_BYTES = 64 * 1024;
/** Left below the stack pointer: the ABI promises nobody anything there, and some code keeps things there. */
const RED_ZONE = 256n;

/**
 * Calls the function at a virtual address from where a hart of a machine stands. Throws `DiversionError` when it does not return, or
 * cannot be called there; `PoolFullError` and `MachineError` as a fork does.
 */
export function callFunction<T = undefined>(
  machine: Machine,
  hart: number,
  address: bigint,
  args: readonly CallArgument[] = [],
  options: CallOptions<T> = {},
): CallResult<T> {
  const diversion = Diversion.of(machine, hart, options);
  try {
    return callIn(diversion, address, args, options.inspect);
  } finally {
    diversion.free();
  }
}

/** As `callFunction`, in a diversion that has not run yet; it is not freed. */
export function callIn<T = undefined>(
  diversion: Diversion,
  address: bigint,
  args: readonly CallArgument[],
  inspect?: (machine: Machine) => T,
): CallResult<T> {
  const { machine, hart, thread, output } = diversion;
  const { hartSet } = machine;
  diversion.purpose = `the call of 0x${address.toString(16)} on hart ${hart}`;
  if (machine.exit || machine.stopped[hart] || hartSet.get(hart, 'waiting') !== 0n)
    throw diversion.error('place', 'the hart executes nothing there');
  if (BigInt.asUintN(64, address) !== address || (address & 1n) !== 0n)
    throw diversion.error('place', 'a function is at an even address of 64 bits');
  if (args.length > MAX_ARGUMENTS)
    throw diversion.error('place', `${args.length} arguments: give at most ${MAX_ARGUMENTS}`);
  const back = returnAddress(diversion);
  const privilege = hartSet.get(hart, 'privilege');
  const { values, sp } = putArguments(diversion, args);
  const record = hartSet.record(hart);
  for (const [n, value] of values.entries()) record.setX(A0 + n, value);
  record.setX(RA, back);
  record.setX(SP, sp);
  record.set('pc', address);
  const id = machine.breakpoints.add({
    address: back,
    condition: (on) => hartSet.get(on, 'privilege') === privilege && isThreadOf(machine, on, thread),
  });
  for (;;) {
    const stop = diversion.run();
    if (stop.reason !== 'breakpoint' || !stop.ids.includes(id)) continue;
    const [result, second] = [hartSet.getX(stop.hart, A0), hartSet.getX(stop.hart, A1)];
    return { result, second, output, steps: diversion.made, inspected: inspect?.(machine) as T };
  }
}

/**
 * Where the function is to return to: the middle of an instruction near the one that the hart stands at. It can be fetched, so that a
 * breakpoint there is hit, and nobody else ever comes there.
 */
function returnAddress(diversion: Diversion): bigint {
  const { machine, hart } = diversion;
  const pc = machine.hartSet.get(hart, 'pc');
  const code = readGuest(machine, hart, pc, PAGE - Number(pc % BigInt(PAGE)));
  for (let at = 0; at + 4 <= code.length; at += 2) if ((code[at]! & 3) === 3) return pc + BigInt(at) + 2n;
  throw diversion.error('place', 'there is no code that could be read, with an instruction of 32 bits');
}

/** Puts bytes on the stack. */
function putArguments(diversion: Diversion, args: readonly CallArgument[]): { values: bigint[]; sp: bigint } {
  const { machine, hart } = diversion;
  let sp = (machine.hartSet.getX(hart, SP) - RED_ZONE) & ~15n;
  const patches: { address: bigint; bytes: Uint8Array }[] = [];
  const values = args.map((arg) => {
    if (typeof arg === 'bigint') return BigInt.asUintN(64, arg);
    const bytes = typeof arg === 'string' ? new TextEncoder().encode(`${arg}\0`) : arg;
    if (bytes.length > MAX_BYTES)
      throw diversion.error('place', `an argument of ${bytes.length} bytes: give at most ${MAX_BYTES}`);
    sp = BigInt.asUintN(64, (sp - BigInt(bytes.length)) & ~15n);
    patches.push({ address: sp, bytes });
    return sp;
  });
  if (!patchMemory(machine, hart, patches))
    throw diversion.error('place', `the stack below 0x${sp.toString(16)} has no pages for arguments of bytes`);
  return { values, sp: BigInt.asUintN(64, sp) };
}

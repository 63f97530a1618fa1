/**
 * Names of tasks, as the kernel has them (`comm`): up to 15 bytes and a NUL. They are any bytes but NUL, or none; programs and their
 * users choose them.
 */

import { decodeCString, decodeText, encodeText } from '../text/guest-text.ts';
import type { KernelMemory } from './memory.ts';

/** Bytes of the field, with the NUL. */
export const COMM = 16;

/** The name at an address; undefined where there is no memory, or no end of a name. */
export function readComm(memory: KernelMemory, address: bigint): string | undefined {
  const bytes = memory.bytes(address, COMM);
  return bytes?.includes(0) ? decodeCString(bytes) : undefined;
}

/** The name that a task gets from a text at an address, which may be longer. */
export function readNewComm(memory: KernelMemory, address: bigint): string | undefined {
  const bytes = memory.bytes(address, COMM - 1);
  return bytes && decodeCString(bytes);
}

/** What the kernel makes of a name: its first 15 bytes, which may end within a character. */
export function asComm(name: string): string {
  return decodeText(encodeText(name).subarray(0, COMM - 1));
}

/**
 * Lines of the guest agent's protocol, read with suspicion and written (QEMU, docs/interop/qemu-ga and qmp-spec).
 *
 * A line is one JSON object. What the agent sends is hostile: lines are bounded before they come here, nesting is bounded before
 * it is parsed, and members are taken only when they are the object's own and of the type wanted.
 */

import { decodeText } from '../text/guest-text.ts';

/** What a request is made of; a bigint becomes an integer with all its digits. */
export type Json = string | number | bigint | boolean | readonly Json[] | { readonly [name: string]: Json | undefined };

/** A value of JSON as parsed. */
export type Parsed = null | boolean | number | string | Parsed[] | { [name: string]: Parsed };
export type ParsedObject = { [name: string]: Parsed };

/** The protocol nests four levels deep. */
const DEPTH = 16;
/** Values of a line: a list of all files of a folder may have so many. What is parsed takes 50 bytes for each, and its text. */
const VALUES = 2 ** 16;

/** The request line of a command, newline included. */
export function encodeLine(message: Json): Uint8Array {
  return new TextEncoder().encode(`${text(message)}\n`);
}

function text(value: Json): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(text).join(',')}]`;
  const members: string[] = [];
  for (const [name, member] of Object.entries(value)) {
    if (member !== undefined) members.push(`${JSON.stringify(name)}:${text(member)}`);
  }
  return `{${members.join(',')}}`;
}

/** The object on a line, or undefined for anything else. */
export function parseLine(line: Uint8Array): ParsedObject | undefined {
  if (tooMuch(line)) return undefined;
  try {
    return asObject(JSON.parse(decodeText(line)));
  } catch {
    return undefined;
  }
}

/** Whether brackets outside strings nest deeper than in any message, or there are more values. */
function tooMuch(line: Uint8Array): boolean {
  let depth = 0;
  let values = 0;
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const byte = line[i];
    if (quoted) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) quoted = false;
    } else if (byte === 0x22) quoted = true;
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > DEPTH || ++values > VALUES) return true;
    } else if (byte === 0x2c || byte === 0x3a) {
      if (++values > VALUES) return true;
    } else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return false;
}

export function asObject(value: Parsed | undefined): ParsedObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
}

/** An object's own member; never one that every object inherits. */
export function member(object: ParsedObject | undefined, name: string): Parsed | undefined {
  return object !== undefined && Object.hasOwn(object, name) ? object[name] : undefined;
}

export function textOf(object: ParsedObject | undefined, name: string): string | undefined {
  const value = member(object, name);
  return typeof value === 'string' ? value : undefined;
}

/** An integer that a number holds exactly. */
export function integerOf(object: ParsedObject | undefined, name: string): number | undefined {
  return asInteger(member(object, name));
}

export function asInteger(value: Parsed | undefined): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}

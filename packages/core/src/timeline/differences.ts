/** What two machines differ in, for people: registers and CSRs by name, pages by address, devices by field. */

import type { HartState } from '../hart/record.ts';
import { X_NAMES } from '../hart/state.ts';
import { visibleState } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { recordMachine } from '../machine/save.ts';
import { ENTRY_FRAME, ENTRY_REMOTE, PAGE, RAM_BASE } from '../memory/layout.ts';

export interface Difference {
  /** Such as `hart 1 mstatus`, `ram 0x80201000`, `plic.pending[2]`. */
  readonly where: string;
  readonly a: string;
  readonly b: string;
}

/** Differences beyond these are counted, not listed. */
const MAX_PAGES = 32;
const SHOWN_BYTES = 16;

/** Empty for machines that a guest could not tell apart. Without `disks`, what is on these is not looked at. */
export function differences(a: Machine, b: Machine, { disks = true } = {}): Difference[] {
  const found: Difference[] = [];
  const { harts: hartsA, ...restA } = visibleState(recordMachine(a)) as { harts: HartState[] };
  const { harts: hartsB, ...restB } = visibleState(recordMachine(b)) as { harts: HartState[] };
  for (let hart = 0; hart < Math.max(hartsA.length, hartsB.length); hart++) {
    compareHarts(`hart ${hart}`, hartsA[hart], hartsB[hart], found);
  }
  compareRam(a, b, found);
  comparePlain('', restA, restB, found);
  if (disks) compareDisks(a, b, found);
  return found;
}

function compareHarts(where: string, a: HartState | undefined, b: HartState | undefined, found: Difference[]): void {
  if (!a || !b) {
    found.push({ where, a: a ? 'there' : 'not there', b: b ? 'there' : 'not there' });
    return;
  }
  const put = (name: string, x: bigint, y: bigint) => {
    if (x !== y) found.push({ where: `${where} ${name}`, a: hex(x), b: hex(y) });
  };
  put('pc', a.fields.pc, b.fields.pc);
  for (let n = 0; n < 32; n++) put(`x${n} (${X_NAMES[n]})`, a.x[n]!, b.x[n]!);
  for (let n = 0; n < 32; n++) put(`f${n}`, a.f[n]!, b.f[n]!);
  for (const name of Object.keys(a.fields) as (keyof HartState['fields'])[]) {
    if (name !== 'pc') put(name, a.fields[name], b.fields[name]);
  }
}

function compareRam(a: Machine, b: Machine, found: Difference[]): void {
  const [first, second] = [new Uint8Array(PAGE), new Uint8Array(PAGE)];
  let pages = 0;
  for (let page = 0; page < Math.max(a.ram.pages, b.ram.pages); page++) {
    const address = RAM_BASE + page * PAGE;
    if (isAbsent(a, page) && isAbsent(b, page)) continue;
    if (!a.ram.read(address, first)) first.fill(0);
    if (!b.ram.read(address, second)) second.fill(0);
    const at = first.findIndex((byte, i) => byte !== second[i]);
    if (at < 0) continue;
    pages++;
    if (pages > MAX_PAGES) continue;
    const from = Math.min(at & ~7, PAGE - SHOWN_BYTES);
    found.push({
      where: `ram ${hex(BigInt(address + from))}`,
      a: bytesText(first.subarray(from, from + SHOWN_BYTES)),
      b: bytesText(second.subarray(from, from + SHOWN_BYTES)),
    });
  }
  if (pages > MAX_PAGES) found.push({ where: 'ram', a: `${pages - MAX_PAGES} more pages differ`, b: '' });
}

function isAbsent({ ram }: Machine, page: number): boolean {
  return page >= ram.pages || (ram.entry(page) & (ENTRY_FRAME | ENTRY_REMOTE)) === 0;
}

function compareDisks(a: Machine, b: Machine, found: Difference[]): void {
  const [disksA, disksB] = [a.platform.backends, b.platform.backends];
  for (let n = 0; n < Math.min(disksA.length, disksB.length); n++) {
    const [x, y] = [disksA[n]!, disksB[n]!];
    const size = Math.min(Number(x.size), Number(y.size));
    for (let at = 0; at < size; at += PAGE) {
      const length = Math.min(PAGE, size - at);
      const [first, second] = [new Uint8Array(length), new Uint8Array(length)];
      // What is not at hand cannot be compared here.
      if (x.read(at, first) || y.read(at, second)) break;
      const differs = first.findIndex((byte, i) => byte !== second[i]);
      if (differs < 0) continue;
      const from = differs & ~7;
      const show = (bytes: Uint8Array) => bytesText(bytes.subarray(from, from + SHOWN_BYTES));
      found.push({ where: `disk ${n} at ${hex(BigInt(at + from))}`, a: show(first), b: show(second) });
      break;
    }
  }
}

/** Fields of records and items of arrays, as deep as they go. */
function comparePlain(where: string, a: unknown, b: unknown, found: Difference[]): void {
  if (isParent(a) && isParent(b) && Array.isArray(a) === Array.isArray(b)) {
    const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
    for (const key of keys) {
      const path = Array.isArray(a) ? `${where}[${key}]` : where ? `${where}.${key}` : key;
      comparePlain(path.replace(/^devices\./, ''), a[key], b[key], found);
    }
    return;
  }
  const [x, y] = [text(a), text(b)];
  if (x !== y) found.push({ where, a: x, b: y });
}

function isParent(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value);
}

function text(value: unknown): string {
  if (typeof value === 'bigint') return hex(value);
  if (value instanceof Uint8Array) return value.length === 0 ? 'no bytes' : bytesText(value);
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint32Array).join(' ');
  return isParent(value) ? 'a record' : String(value);
}

function bytesText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** A line for each difference. */
export function formatDifferences(list: readonly Difference[]): string {
  const width = Math.max(0, ...list.map(({ where }) => where.length));
  return list.map(({ where, a, b }) => `${where.padEnd(width)}  ${a}  |  ${b}\n`).join('');
}

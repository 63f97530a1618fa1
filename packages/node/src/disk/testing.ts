/** A file system in memory that can lose its power between any two calls and in the middle of each write. */

import type { FileOperations, FileStatus } from './file-operations.ts';

const SECTOR = 512;

type Change = { readonly offset: number; readonly bytes: Buffer } | { readonly size: number };

interface SimulatedFile {
  readonly number: number;
  content: Buffer;
  /** What is on the medium for certain. */
  durable: Buffer;
  /** What was done since. */
  pending: Change[];
  modified: bigint;
  durableModified: bigint;
}

type Naming = (names: Map<string, SimulatedFile>) => void;

/** 0 to n - 1: what survives a crash is drawn from it. */
export type Choose = (n: number) => number;

export const NOTHING: Choose = () => 0;
export const EVERYTHING: Choose = (n) => n - 1;

export function failure(code: string): Error {
  return Object.assign(new Error(`${code}: simulated`), { code });
}

export class SimulatedFiles implements FileOperations {
  /** Called before each call that changes something; at `bytes` bytes of a write, if `everyByte`. */
  onChange: ((call: string, bytes: number) => void) | undefined;
  everyByte = false;
  /** How many bytes files can grow. */
  room: number = Number.MAX_SAFE_INTEGER;
  /** Throws at its will, before the call does anything. */
  fault: ((call: string) => void) | undefined;
  private names = new Map<string, SimulatedFile>();
  private durableNames = new Map<string, SimulatedFile>();
  private namings: Naming[] = [];
  private opened = new Map<number, SimulatedFile>();
  private nextFile = 3;
  private nextNumber = 1;
  private now = 1_700_000_000_123_456_789n;

  /** A file that is on the medium; the array is not to be changed any more. */
  put(path: string, bytes: Uint8Array): void {
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const modified = this.now++;
    const number = this.nextNumber++;
    const whole = { number, content, durable: content, pending: [], modified, durableModified: modified };
    this.names.set(path, whole);
    this.durableNames.set(path, whole);
  }

  content(path: string): Buffer | undefined {
    return this.names.get(path)?.content;
  }

  paths(): string[] {
    return [...this.names.keys()].sort();
  }

  /** How many files are open. */
  get openFiles(): number {
    return this.opened.size;
  }

  /** What there is after the power has come back: of what was not on the medium, each sector and each first so many names by choice. */
  afterCrash(choose: Choose): SimulatedFiles {
    const next = new SimulatedFiles();
    next.now = this.now;
    const names = new Map(this.durableNames);
    for (const naming of this.namings.slice(0, choose(this.namings.length + 1))) naming(names);
    for (const [path, file] of names) {
      let content = file.durable;
      for (const change of file.pending) content = surviving(content, change, choose);
      next.put(path, content);
      const put = next.names.get(path)!;
      put.modified = put.durableModified = choose(2) === 0 ? file.durableModified : file.modified;
    }
    return next;
  }

  open(path: string, how: 'read' | 'write' | 'new'): number {
    let file = this.names.get(path);
    if (how === 'new') {
      if (file) throw failure('EEXIST');
      this.changing('create');
      file = {
        number: this.nextNumber++,
        content: Buffer.alloc(0),
        durable: Buffer.alloc(0),
        pending: [],
        modified: this.now,
        durableModified: this.now,
      };
      const made = file;
      this.naming((names) => names.set(path, made));
    }
    if (!file) throw failure('ENOENT');
    this.opened.set(this.nextFile, file);
    return this.nextFile++;
  }

  close(file: number): void {
    this.file(file);
    this.opened.delete(file);
  }

  status(number: number): FileStatus {
    const file = this.file(number);
    const { content, modified } = file;
    return { kind: 'file', size: content.length, modified, user: 0, identity: String(file.number), names: 1 };
  }

  /** In two parts, as may happen. */
  read(number: number, into: Uint8Array, offset: number): number {
    const bytes = this.file(number).content.subarray(offset, offset + Math.ceil(into.length / 2));
    into.set(bytes);
    return bytes.length;
  }

  write(number: number, bytes: Uint8Array, offset: number): number {
    const file = this.file(number);
    const before = file.content;
    const upTo = (count: number) => {
      const part = Buffer.from(bytes.subarray(0, count));
      file.content = applied(before, { offset, bytes: part });
      file.pending.push({ offset, bytes: part });
      file.modified = ++this.now;
    };
    this.fault?.('write');
    for (let count = 0; count < bytes.length; count += this.everyByte ? 1 : bytes.length) {
      if (count > 0) upTo(count);
      this.onChange?.('write', count);
      if (count > 0) file.pending.pop();
    }
    const fits = Math.min(bytes.length, Math.max(0, before.length - offset) + this.room);
    if (fits === 0) throw failure('ENOSPC');
    upTo(fits);
    this.room -= file.content.length - before.length;
    return fits;
  }

  mark(number: number): void {
    this.changing('mark');
    this.file(number).modified = this.now++;
  }

  truncate(number: number, size: number): void {
    this.changing('truncate');
    const file = this.file(number);
    this.room += file.content.length - size;
    file.content = applied(file.content, { size });
    file.pending.push({ size });
  }

  syncData(number: number): void {
    this.changing('sync');
    const file = this.file(number);
    file.durable = file.content;
    file.pending = [];
  }

  sync(number: number): void {
    this.syncData(number);
    const file = this.file(number);
    file.durableModified = file.modified;
  }

  rename(from: string, to: string): void {
    this.changing('rename');
    this.naming((names) => {
      const file = names.get(from);
      if (!file) throw failure('ENOENT');
      names.set(to, file);
      names.delete(from);
    });
  }

  remove(path: string): void {
    const file = this.names.get(path);
    if (!file) throw failure('ENOENT');
    this.changing('remove');
    this.room += file.content.length;
    this.naming((names) => names.delete(path));
  }

  syncFolder(): void {
    this.changing('sync folder');
    this.durableNames = new Map(this.names);
    this.namings = [];
  }

  private naming(change: Naming): void {
    change(this.names);
    this.namings.push(change);
  }

  private changing(call: string): void {
    this.fault?.(call);
    this.onChange?.(call, 0);
  }

  private file(number: number): SimulatedFile {
    const file = this.opened.get(number);
    if (!file) throw failure('EBADF');
    return file;
  }
}

function applied(content: Buffer, change: Change): Buffer {
  if ('size' in change) {
    const cut = Buffer.alloc(change.size);
    content.copy(cut);
    return cut;
  }
  const longer = Buffer.alloc(Math.max(content.length, change.offset + change.bytes.length));
  content.copy(longer);
  change.bytes.copy(longer, change.offset);
  return longer;
}

/** A change, or the sectors of a write that the choice lets through. */
function surviving(content: Buffer, change: Change, choose: Choose): Buffer {
  if ('size' in change) return choose(2) === 0 ? content : applied(content, change);
  const { offset, bytes } = change;
  const lengths: number[] = [];
  for (let from = offset; from < offset + bytes.length; from += lengths.at(-1)!) {
    lengths.push(Math.min(offset + bytes.length, (Math.floor(from / SECTOR) + 1) * SECTOR) - from);
  }
  const survives = lengths.map(() => choose(2) === 1);
  const last = survives.lastIndexOf(true);
  if (last < 0) return content;
  let at = 0;
  // What follows the last one does not make the file longer.
  const ends = lengths.slice(0, last + 1).reduce((sum, length) => sum + length, 0);
  const longer = Buffer.concat([content, Buffer.alloc(Math.max(0, offset + ends - content.length))]);
  for (const [i, length] of lengths.entries()) {
    if (survives[i]) bytes.copy(longer, offset + at, at, at + length);
    at += length;
  }
  return longer;
}

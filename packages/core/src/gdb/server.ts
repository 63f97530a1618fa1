/**
 * The server's side of gdb's remote serial protocol, for one debugger: bytes in, bytes out, and a target. All-stop: the target stands
 * still unless a command has it run, and while it runs only an interrupt is answered.
 *
 * Breakpoints are never written into memory, whatever gdb calls them: the target stops at their addresses.
 *
 * Source: the appendix "gdb Remote Serial Protocol" of gdb's manual.
 */

import { escapeGuestText } from '../text/escape.ts';
import { GdbError } from './errors.ts';
import {
  bytesOfHex,
  bytesText,
  escapeBytes,
  frame,
  hexOf,
  MAX_PACKET,
  numberOfHex,
  PacketReader,
  textBytes,
  unescapeBytes,
} from './packet.ts';
import { programStep } from './program-step.ts';
import {
  byNumber,
  GENERAL,
  PC,
  REGISTERS,
  type Register,
  registerHex,
  registerValue,
  targetDescription,
} from './registers.ts';
import type { DebugPoint, DebugStop, DebugTarget, MemoryOptions, RegisterValues, Resume } from './target.ts';
import { type Thread, Threads, threadName, threadsXml } from './threads.ts';

export interface GdbTransport {
  send(bytes: Uint8Array): void;
  /** Ends the connection, behind what was sent. */
  close(): void;
}

export interface GdbOptions {
  /** Whether tasks of the guest's kernel that do not run are threads too. */
  readonly tasks?: boolean;
}

/** Packets that may wait for the one under way; gdb has at most one. */
const MAX_WAITING = 64;
const MAX_POINTS = 4096;
/** What a watchpoint covers. */
const MAX_WATCHED = 4096;
/** Memory that a search reads at once, and in all. */
const SEARCH_CHUNK = 64 * 1024;
const SEARCH_LIMIT = 256 * 2 ** 20;

const GENERAL_REGISTERS = REGISTERS.filter(({ number }) => number < GENERAL);
/** Sent along with each stop: pc, sp, s0 (the frame pointer). */
const EXPEDITED = [PC, 2, 8].map((number) => byNumber.get(number)!);
const NO_MEMORY = 'E14';
const MALFORMED = 'E22';
const NO_THREAD = 'E03';
const OK = 'OK';
const UNSUPPORTED = '';

/** Has what a thread's registers are, where they are asked for one by one. */
interface Cached {
  readonly thread: number;
  readonly values: RegisterValues;
}

export class GdbServer {
  private readonly target: DebugTarget;
  private readonly transport: GdbTransport;
  private readonly threads: Threads;
  private readonly reader = new PacketReader();
  private readonly waiting: Uint8Array[] = [];
  private working = false;
  private closing: Promise<void> | undefined;
  private acknowledge = true;
  private lastSent: Uint8Array | undefined;
  private running: AbortController | undefined;
  private stop: DebugStop | undefined;
  private cached: Cached | undefined;
  /** Threads that `g`, `m` and so on are about, and that `c`, `s` and `bs` are about; 0 is any. */
  private general = 0;
  private moving = 0;
  private physical = false;
  private intoKernel = false;
  /** By what gdb calls them: software (0) and hardware (1) breakpoints are one to the target. */
  private readonly points = new Map<string, { readonly type: number; readonly point: DebugPoint }>();
  private attached: Promise<void> | undefined;
  /** An interrupt that came before the command that it is for. */
  private interrupted = false;
  /** What the debugger says that it knows of. */
  private features: ReadonlySet<string> = new Set();

  constructor(target: DebugTarget, transport: GdbTransport, options: GdbOptions = {}) {
    this.target = target;
    this.transport = transport;
    this.threads = new Threads(target, options.tasks === true);
  }

  /** Stops the target for the debugger. Rejects where that cannot be. */
  attach(): Promise<void> {
    this.attached ??= this.begin();
    return this.attached;
  }

  private async begin(): Promise<void> {
    this.stop = await this.target.attach();
    // It has gone meanwhile.
    if (this.closing) await this.target.detach();
  }

  /** Bytes from the debugger. */
  receive(bytes: Uint8Array): void {
    // Once however often it is asked for: whoever has not got the last reply has not got it, and one who floods gets no more for it.
    let again = false;
    let bad = false;
    for (const item of this.reader.push(bytes)) {
      if (this.closing) return;
      if (item.kind === 'interrupt') this.interrupt();
      else if (item.kind === 'nack') again = true;
      else if (item.kind === 'bad') bad = true;
      else if (item.kind === 'packet') this.accept(item.payload);
    }
    if (!this.acknowledge || this.closing) return;
    if (bad) this.transport.send(textBytes('-'));
    if (again && this.lastSent) this.transport.send(this.lastSent);
  }

  private interrupt(): void {
    if (this.running) this.running.abort();
    else this.interrupted = this.working;
  }

  /** The connection is over, whoever has ended it: the target goes on without the debugger. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    this.running?.abort();
    if (this.stop) await this.target.detach();
  }

  private accept(payload: Uint8Array): void {
    if (this.acknowledge) this.transport.send(textBytes('+'));
    if (this.waiting.length === MAX_WAITING) return this.hangUp();
    this.waiting.push(payload);
    if (!this.working) void this.work();
  }

  private hangUp(): void {
    this.transport.close();
    void this.close().catch(() => {});
  }

  private async work(): Promise<void> {
    this.working = true;
    try {
      await this.attach();
    } catch (error) {
      this.send(errorReply(error));
      return this.hangUp();
    }
    for (let payload = this.waiting.shift(); payload && !this.closing; payload = this.waiting.shift()) {
      let reply: string | Uint8Array | undefined;
      try {
        reply = await this.answer(payload);
      } catch (error) {
        reply = errorReply(error);
      }
      if (this.closing) break;
      if (reply !== undefined) this.send(reply);
      if (bytesText(payload) === 'QStartNoAckMode') this.acknowledge = false;
    }
    this.working = false;
    this.interrupted = false;
  }

  private send(reply: string | Uint8Array): void {
    const bytes = frame(typeof reply === 'string' ? textBytes(reply) : reply);
    this.lastSent = bytes;
    this.transport.send(bytes);
  }

  /** Text for the person at the debugger. */
  private say(text: string): void {
    const bytes = textBytes(escapeGuestText(text, { multiline: true }));
    const chunk = MAX_PACKET / 2 - 1;
    for (let at = 0; at < bytes.length; at += chunk) this.send(`O${hexOf(bytes.subarray(at, at + chunk))}`);
  }

  /** The reply to a packet; undefined where there is none. */
  private async answer(payload: Uint8Array): Promise<string | Uint8Array | undefined> {
    if (payload[0] === 0x58) return this.writeBinary(payload);
    if (bytesText(payload.subarray(0, 14)) === 'qSearch:memory') return this.search(payload);
    const packet = bytesText(payload);
    const rest = packet.slice(1);
    switch (packet[0]) {
      case '?':
        return this.stopReply();
      case 'g':
        return this.readGeneral();
      case 'G':
        return this.writeGeneral(rest);
      case 'p':
        return this.readOne(rest);
      case 'P':
        return this.writeOne(rest);
      case 'm':
        return this.read(rest, (bytes) => hexOf(bytes), MAX_PACKET / 2);
      case 'x':
        return this.read(rest, binary, MAX_PACKET / 2 - 1);
      case 'M':
        return this.writeHex(rest);
      case 'Z':
        return this.setPoint(rest);
      case 'z':
        return this.deletePoint(rest);
      case 'H':
        return this.select(rest);
      case 'T':
        return (await this.threadOf(rest)) ? OK : NO_THREAD;
      case 'c':
      case 'C':
        return this.resume({ direction: 'forward', kind: 'continue' });
      case 's':
      case 'S':
        return this.resume({ direction: 'forward', kind: 'step' });
      case 'b':
        return this.backward(rest);
      case 'D':
        return this.leave(OK);
      case 'k':
        return this.leave(undefined);
      case 'v':
        return this.verbose(packet);
      case 'q':
      case 'Q':
        return this.query(packet);
      default:
        return UNSUPPORTED;
    }
  }

  // --- What there is

  private query(packet: string): Promise<string | Uint8Array> | string | Uint8Array {
    const [name] = /^[qQ]\w*/.exec(packet)!;
    const rest = packet.slice(name.length + 1);
    switch (name) {
      case 'qSupported':
        this.features = new Set(rest.split(';'));
        return this.supported();
      case 'QStartNoAckMode':
      case 'qSymbol':
        return OK;
      case 'qAttached':
        return '1';
      case 'qOffsets':
        return 'Text=0;Data=0;Bss=0';
      case 'qC':
        return `QC${this.stoppedThread.toString(16)}`;
      case 'qfThreadInfo':
        return this.threadList();
      case 'qsThreadInfo':
        return 'l';
      case 'qThreadExtraInfo':
        return this.extraInfo(rest);
      case 'qXfer':
        return this.transfer(rest);
      case 'qRcmd':
        return this.monitor(rest);
      default:
        return UNSUPPORTED;
    }
  }

  private supported(): string {
    const reverse = this.target.reversible ? ';ReverseStep+;ReverseContinue+' : '';
    return (
      `PacketSize=${MAX_PACKET.toString(16)};QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;` +
      `vContSupported+;swbreak+;hwbreak+;binary-upload+${reverse}`
    );
  }

  private async transfer(rest: string): Promise<string | Uint8Array> {
    const match = /^(features|threads):read:([\w.]*):([0-9a-f]{1,8}),([0-9a-f]{1,8})$/i.exec(rest);
    if (!match) return rest.startsWith('features') || rest.startsWith('threads') ? 'E00' : UNSUPPORTED;
    const [, object, annex, from, count] = match;
    if (annex !== (object === 'features' ? 'target.xml' : '')) return 'E00';
    const text = object === 'features' ? targetDescription() : threadsXml(await this.threads.all());
    return slice(textBytes(text), Number.parseInt(from!, 16), Number.parseInt(count!, 16));
  }

  // --- Threads

  /** The thread of the last stop. */
  private get stoppedThread(): number {
    return (this.stop?.hart ?? 0) + 1;
  }

  /** A thread by the number in a packet, 0 and -1 being the one of the last stop; undefined where there is none. */
  private async threadOf(text: string): Promise<Thread | undefined> {
    const id = threadId(text);
    if (id === undefined) return undefined;
    return this.threads.find(id <= 0 ? this.stoppedThread : id);
  }

  private async select(rest: string): Promise<string> {
    const id = threadId(rest.slice(1));
    if (id === undefined || !(await this.threadOf(rest.slice(1)))) return NO_THREAD;
    if (rest[0] === 'g') this.general = Math.max(id, 0);
    else if (rest[0] === 'c') this.moving = Math.max(id, 0);
    else return MALFORMED;
    return OK;
  }

  /** The thread that registers and memory are those of. */
  private async looked(): Promise<Thread> {
    const thread = await this.threads.find(this.general || this.stoppedThread);
    if (!thread) throw new GdbError('the thread is gone');
    return thread;
  }

  private async threadList(): Promise<string> {
    const threads = await this.threads.all();
    // More than a packet holds are in `qXfer:threads`.
    let list = '';
    for (const { id } of threads) {
      const next = list === '' ? id.toString(16) : `${list},${id.toString(16)}`;
      if (next.length >= MAX_PACKET) break;
      list = next;
    }
    return `m${list}`;
  }

  private async extraInfo(rest: string): Promise<string> {
    const thread = await this.threadOf(rest);
    return thread ? hexOf(textBytes(escapeGuestText(threadName(thread)))) : NO_THREAD;
  }

  // --- Registers

  private async values(): Promise<RegisterValues> {
    const thread = await this.looked();
    if (this.cached?.thread !== thread.id) {
      const values =
        thread.hart === undefined ? (thread.task.registers ?? {}) : await this.target.registers(thread.hart);
      this.cached = { thread: thread.id, values };
    }
    return this.cached.values;
  }

  private async readGeneral(): Promise<string> {
    const values = await this.values();
    return GENERAL_REGISTERS.map((register) => registerHex(register, values[register.name])).join('');
  }

  private async readOne(rest: string): Promise<string> {
    const register = byNumber.get(Number(numberOfHex(rest) ?? -1n));
    if (!register) return 'E01';
    return registerHex(register, (await this.values())[register.name]);
  }

  private async writeOne(rest: string): Promise<string> {
    const [number = '', hex = ''] = rest.split('=');
    const register = byNumber.get(Number(numberOfHex(number) ?? -1n));
    const value = register && registerValue(register, hex);
    if (!register || value === undefined) return MALFORMED;
    await this.setRegisters([[register, value]]);
    return OK;
  }

  private async writeGeneral(rest: string): Promise<string> {
    const before = await this.values();
    const changes: [Register, bigint][] = [];
    let at = 0;
    for (const register of GENERAL_REGISTERS) {
      const hex = rest.slice(at, at + register.bits / 4);
      at += register.bits / 4;
      const value = registerValue(register, hex);
      if (value === undefined) return MALFORMED;
      if (value !== before[register.name]) changes.push([register, value]);
    }
    await this.setRegisters(changes);
    return OK;
  }

  private async setRegisters(changes: readonly (readonly [Register, bigint])[]): Promise<void> {
    this.requireWritable('registers');
    const { hart } = await this.looked();
    if (hart === undefined) throw new GdbError('registers of a task that does not run cannot be changed');
    this.cached = undefined;
    for (const [{ name }, value] of changes) await this.target.setRegister(hart, name, value);
  }

  private requireWritable(what: string): void {
    if (!this.target.writable) throw new GdbError(`a replay's ${what} cannot be changed: it is what was recorded`);
  }

  // --- Memory

  private async memoryOptions(): Promise<MemoryOptions> {
    const thread = await this.looked();
    const hart = thread.hart ?? this.stop?.hart ?? 0;
    const satp = thread.hart === undefined ? thread.task.satp : undefined;
    return { hart, physical: this.physical, ...(satp === undefined ? {} : { satp }) };
  }

  private async read(
    rest: string,
    show: (bytes: Uint8Array) => string | Uint8Array,
    most: number,
  ): Promise<string | Uint8Array> {
    const range = rangeOf(rest);
    if (!range) return MALFORMED;
    const length = Math.min(range.length, most);
    if (length === 0) return show(new Uint8Array());
    const bytes = await this.target.read(range.address, length, await this.memoryOptions());
    return bytes.length === 0 ? NO_MEMORY : show(bytes);
  }

  private async writeHex(rest: string): Promise<string> {
    const colon = rest.indexOf(':');
    const bytes = bytesOfHex(rest.slice(colon + 1));
    return this.write(rest.slice(0, Math.max(colon, 0)), bytes);
  }

  private async writeBinary(payload: Uint8Array): Promise<string> {
    const colon = payload.indexOf(0x3a);
    return this.write(bytesText(payload.subarray(1, Math.max(colon, 1))), unescapeBytes(payload.subarray(colon + 1)));
  }

  private async write(where: string, bytes: Uint8Array | undefined): Promise<string> {
    const range = rangeOf(where);
    if (!range || !bytes || bytes.length !== range.length) return MALFORMED;
    this.requireWritable('memory');
    if (bytes.length > 0) await this.target.write(range.address, bytes, await this.memoryOptions());
    this.cached = undefined;
    return OK;
  }

  /** `qSearch:memory:ADDRESS;LENGTH;PATTERN` */
  private async search(payload: Uint8Array): Promise<string> {
    const head = /^qSearch:memory:([0-9a-f]{1,16});([0-9a-f]{1,16});/i.exec(bytesText(payload.subarray(0, 64)));
    const pattern = head && unescapeBytes(payload.subarray(head[0].length));
    if (!head || !pattern || pattern.length === 0) return MALFORMED;
    const from = numberOfHex(head[1]!)!;
    const length = Number(numberOfHex(head[2]!)!);
    if (length > SEARCH_LIMIT) throw new GdbError(`a search covers at most ${SEARCH_LIMIT} bytes`);
    const options = await this.memoryOptions();
    for (let done = 0; done + pattern.length <= length; done += SEARCH_CHUNK) {
      const wanted = Math.min(SEARCH_CHUNK + pattern.length - 1, length - done);
      const bytes = await this.target.read(from + BigInt(done), wanted, options);
      const at = indexOf(bytes, pattern);
      if (at >= 0) return `1,${(from + BigInt(done + at)).toString(16)}`;
      if (bytes.length < wanted) break;
    }
    return '0';
  }

  // --- Points

  private setPoint(rest: string): string {
    const found = pointOf(rest);
    if (found === undefined) return UNSUPPORTED;
    if (typeof found === 'string') return found;
    if (this.points.size >= MAX_POINTS) throw new GdbError(`there are ${MAX_POINTS} break- and watchpoints already`);
    this.points.set(found.key, found);
    return OK;
  }

  private deletePoint(rest: string): string {
    const found = pointOf(rest);
    if (found === undefined) return UNSUPPORTED;
    if (typeof found === 'string') return found;
    this.points.delete(found.key);
    return OK;
  }

  // --- Running

  private async verbose(packet: string): Promise<string | undefined> {
    if (packet === 'vCont?') return 'vCont;c;C;s;S;t;r';
    if (packet.startsWith('vCont;')) return this.vCont(packet.slice(6));
    if (packet.startsWith('vKill') || packet.startsWith('vDetach')) return this.leave(OK);
    return UNSUPPORTED;
  }

  /** The thread that is to step decides; the others run in any case, as the machine's schedule has it. */
  private async vCont(rest: string): Promise<string | undefined> {
    const actions = rest.split(';').map((text) => {
      const match = /^(?:([cst])|([CS])[0-9a-f]{2}|(r)([0-9a-f]{1,16}),([0-9a-f]{1,16}))(?::(-?[0-9a-f]+))?$/i.exec(
        text,
      );
      if (!match) return undefined;
      const [, plain, signalled, ranged, from, to, thread] = match;
      const kind = (plain ?? signalled ?? ranged!).toLowerCase();
      return { kind, from, to, thread };
    });
    if (actions.includes(undefined)) return MALFORMED;
    const step = actions.find((action) => action!.kind === 's' || action!.kind === 'r');
    if (!step) {
      // `t` is for a debugger that goes on while threads run.
      if (actions.every((action) => action!.kind === 't')) return this.stopReply();
      return this.resume({ direction: 'forward', kind: 'continue' });
    }
    const range = step.kind === 'r' ? { from: numberOfHex(step.from!)!, to: numberOfHex(step.to!)! } : undefined;
    return this.resume({ direction: 'forward', kind: 'step', ...(range ? { range } : {}) }, step.thread);
  }

  private async backward(rest: string): Promise<string | undefined> {
    if (!this.target.reversible) return UNSUPPORTED;
    if (rest === 's') return this.resume({ direction: 'backward', kind: 'step' });
    if (rest === 'c') return this.resume({ direction: 'backward', kind: 'continue' });
    return UNSUPPORTED;
  }

  private async resume(
    how: Pick<Resume, 'direction' | 'kind' | 'range'>,
    threadText = (this.moving || this.stoppedThread).toString(16),
  ): Promise<string | undefined> {
    const thread = await this.threadOf(threadText);
    if (!thread) return NO_THREAD;
    if (thread.hart === undefined && how.kind === 'step') {
      this.say(`${threadName(thread)} does not run, and cannot be stepped: set a breakpoint where it goes on.\n`);
      // An interrupt: behind a step that leads nowhere gdb would make the next one.
      this.general = thread.id;
      return `T02thread:${thread.id.toString(16)};`;
    }
    const running = new AbortController();
    if (this.interrupted) running.abort();
    this.interrupted = false;
    this.running = running;
    const points = [...this.points.values()].map(({ point }) => point);
    try {
      const command: Resume = { ...how, hart: thread.hart ?? this.stop?.hart ?? 0, points };
      const { target, intoKernel } = this;
      const { signal } = running;
      this.stop = await (how.kind === 'step' && !intoKernel
        ? programStep(target, command, signal)
        : target.resume(command, signal));
    } catch (error) {
      // The debugger waits for a stop, whatever happens.
      this.say(`${(error as Error).message}\n`);
      this.stop = { kind: 'step', hart: this.stop?.hart ?? 0 };
    } finally {
      this.running = undefined;
      this.moved();
      // From a stop on, gdb takes its thread for the chosen one.
      this.general = 0;
    }
    return this.stopReply();
  }

  /** What was known of the target's state may be so no longer. */
  private moved(): void {
    this.cached = undefined;
    this.threads.forget();
  }

  private async stopReply(): Promise<string> {
    const stop = this.stop!;
    if (stop.kind === 'exit') return `W${((stop.code ?? 0) & 255).toString(16).padStart(2, '0')}`;
    const signal = stop.kind === 'interrupted' ? '02' : '05';
    const values = await this.target.registers(stop.hart);
    const registers = EXPEDITED.map(
      (one) => `${one.number.toString(16).padStart(2, '0')}:${registerHex(one, values[one.name])};`,
    );
    const thread = this.stoppedThread.toString(16);
    return `T${signal}${this.reason(stop)}thread:${thread};core:${stop.hart.toString(16)};${registers.join('')}`;
  }

  private reason(stop: DebugStop): string {
    const { point } = stop;
    if (stop.kind === 'begin' || stop.kind === 'end') return `replaylog:${stop.kind};`;
    if (stop.kind === 'breakpoint') {
      const software = point?.kind !== 'break' || this.points.has(pointKey(0, point.address, 0));
      const name = software ? 'swbreak' : 'hwbreak';
      return this.features.has(`${name}+`) ? `${name}:;` : '';
    }
    if (stop.kind !== 'watchpoint' || !point || point.kind === 'break') return '';
    // An access that begins before what is watched is one to its first byte.
    const { address = point.address } = stop;
    const inside = address >= point.address && address < point.address + BigInt(point.length);
    const name = { write: 'watch', read: 'rwatch', access: 'awatch' }[point.kind];
    return `${name}:${(inside ? address : point.address).toString(16)};`;
  }

  private async leave(reply: string | undefined): Promise<undefined> {
    if (reply !== undefined) this.send(reply);
    this.hangUp();
  }

  // --- Commands of a person

  private async monitor(hex: string): Promise<string> {
    const bytes = bytesOfHex(hex);
    if (!bytes) return MALFORMED;
    const words = bytesText(bytes)
      .trim()
      .split(/\s+/)
      .filter((word) => word !== '');
    try {
      const text = await this.command(words);
      if (text !== '') this.say(text.endsWith('\n') ? text : `${text}\n`);
      return OK;
    } catch (error) {
      this.say(`${(error as Error).message}\n`);
      return 'E01';
    } finally {
      this.moved();
    }
  }

  private async command(words: readonly string[]): Promise<string> {
    const [name = 'help', value] = words;
    if (name === 'help') {
      const commands = [...this.target.commands, ...COMMANDS];
      const width = commands.reduce((most, [usage]) => Math.max(most, usage.length), 0);
      return commands.map(([usage, what]) => `${usage.padEnd(width)}  ${what}\n`).join('');
    }
    if (name !== 'physical' && name !== 'step-into') return this.target.monitor(words);
    if (value !== undefined && value !== 'on' && value !== 'off') throw new GdbError(`monitor ${name} on | off`);
    if (name === 'physical') {
      if (value !== undefined) this.physical = value === 'on';
      return `addresses are ${this.physical ? 'guest-physical' : 'virtual'}`;
    }
    if (value !== undefined) this.intoKernel = value === 'on';
    return `steps of programs ${this.intoKernel ? 'go into' : 'pass over'} what the kernel does`;
  }
}

const COMMANDS = [
  ['step-into on|off', 'whether steps of a program go into interrupts, page faults and system calls, from now on'],
  ['physical on|off', 'whether addresses of memory are guest-physical, from now on'],
  ['help', 'these lines'],
] as const;

/** An error as gdb shows it. */
function errorReply(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return `E.${escapeGuestText(text.replaceAll('\n', ' '), { limit: 1000 })}`;
}

/** Numbers of threads, -1 being all; undefined for anything else. */
function threadId(text: string): number | undefined {
  if (text === '-1') return -1;
  return /^[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : undefined;
}

/** `ADDRESS,LENGTH` */
function rangeOf(text: string): { readonly address: bigint; readonly length: number } | undefined {
  const [address, length, ...more] = text.split(',').map(numberOfHex);
  if (address === undefined || length === undefined || more.length > 0 || length > 1n << 32n) return undefined;
  return { address, length: Number(length) };
}

const POINTS = ['break', 'break', 'write', 'read', 'access'] as const;

function pointKey(type: number, address: bigint, length: number): string {
  return type < 2 ? `${type} ${address}` : `${type} ${address} ${length}`;
}

/** `TYPE,ADDRESS,KIND`, conditions and commands for the target left out; an error, or undefined for a type that there is not. */
function pointOf(
  text: string,
): { readonly key: string; readonly type: number; readonly point: DebugPoint } | string | undefined {
  const match = /^(\d),([^;]*)/.exec(text);
  const range = match && rangeOf(match[2]!);
  if (!range) return MALFORMED;
  const type = Number(match[1]);
  const kind = POINTS[type];
  if (kind === undefined) return undefined;
  const { address, length } = range;
  const key = pointKey(type, address, length);
  if (kind === 'break') {
    if ((address & 1n) !== 0n) return 'E.a breakpoint is at an even address';
    return { key, type, point: { kind, address } };
  }
  if (length < 1 || length > MAX_WATCHED) return `E.a watchpoint covers 1 to ${MAX_WATCHED} bytes`;
  return { key, type, point: { kind, address, length } };
}

/** Memory as `x` answers it. */
function binary(bytes: Uint8Array): Uint8Array {
  const escaped = escapeBytes(bytes).bytes;
  const reply = new Uint8Array(1 + escaped.length);
  reply[0] = 0x62; // b
  reply.set(escaped, 1);
  return reply;
}

/** A part of an object: `m` and what follows, or `l` and the last of it. */
function slice(bytes: Uint8Array, from: number, count: number): Uint8Array {
  const part = bytes.subarray(from, from + count);
  const { bytes: escaped, taken } = escapeBytes(part, MAX_PACKET - 1);
  const reply = new Uint8Array(1 + escaped.length);
  reply[0] = from + taken < bytes.length ? 0x6d : 0x6c;
  reply.set(escaped, 1);
  return reply;
}

function indexOf(bytes: Uint8Array, pattern: Uint8Array): number {
  for (let at = bytes.indexOf(pattern[0]!); at >= 0; at = bytes.indexOf(pattern[0]!, at + 1)) {
    if (at + pattern.length > bytes.length) return -1;
    if (pattern.every((byte, n) => bytes[at + n] === byte)) return at;
  }
  return -1;
}

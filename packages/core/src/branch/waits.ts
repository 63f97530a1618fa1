/**
 * The wait detector: finds in a machine's event log the waits for input whose answers were few and repeated, which are the
 * points where clones can run ahead with guesses.
 *
 * A wait is a stretch of guest time without input on a channel (the serial console, or a port of the virtio console) and without
 * output that is ended by input. What was put out last names it: the last line, with its numbers taken out, is the prompt.
 * Where nothing was put out since the last answer, waits of a channel that are about as long as each other count as one.
 *
 * Events that belong together are one answer: the keys of a line up to its end, with nothing but their echo put out between; and
 * everything that follows at once, such as the lines of a paste.
 *
 * The detector is a stream: `input` and `output` in the order of guest time, each in amortised time proportional to its bytes, and memory
 * that is bounded whatever comes. Events that are no input of a channel are not looked at. Nothing throws.
 */

import type { EventLog, InputEvent, LoggedEvent } from '../machine/log.ts';
import { decodeText } from '../text/guest-text.ts';

/** `console` is the serial port, a number a port of the virtio console. */
export type Channel = 'console' | number;

/** Something that the machine put out, at a guest time in ns. */
export interface TimedOutput {
  readonly time: bigint;
  readonly channel: Channel;
  readonly bytes: Uint8Array;
}

export interface WaitOptions {
  /** In the order of time. Without it waits are told apart by how long they last. */
  readonly output?: Iterable<TimedOutput>;
  /** The shortest wait, in ns of guest time; 100 ms if not given. Input that follows sooner belongs to the answer before. */
  readonly threshold?: bigint;
  /** The longest pause between the keys of a line, in ns of guest time; 5 s if not given. */
  readonly pause?: bigint;
  /** How often a wait must have been seen; 3 if not given. */
  readonly occurrences?: number;
  /** How many guesses at most; 4 if not given. */
  readonly guesses?: number;
  /** The part of all answers that the guesses must have been, if the next one were another; 0.75 if not given. */
  readonly coverage?: number;
}

export interface WaitAnswer {
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Of all answers to this wait. */
  readonly probability: number;
}

export interface WaitProposal {
  readonly channel: Channel;
  /** As `promptOf` gives it; undefined when nothing was put out before the wait. */
  readonly prompt: string | undefined;
  readonly occurrences: number;
  /** In ns of guest time, from the last output (or answer) to the first byte of the answer. */
  readonly shortest: bigint;
  readonly longest: bigint;
  readonly total: bigint;
  /** Those that were given more than once, the most frequent first; of equals the first in the order of bytes. */
  readonly answers: readonly WaitAnswer[];
  /** The answers to assume: the most frequent ones that make up the coverage asked for, and no more than asked for. */
  readonly guesses: readonly Uint8Array[];
}

const MAX_PROMPT = 200;
const MAX_LINE = 1024;
const MAX_ANSWER = 256;
const MAX_GROUPS = 1024;
const MAX_ANSWERS = 64;
const MAX_CHANNELS = 16;
/** Waits without a prompt that are kept for a channel. */
const MAX_SILENT = 4096;
/** Waits without a prompt are of one kind if none is so many quarters longer than the next shorter one. */
const SPREAD_QUARTERS = 5n;

/** The proposals that a log gives, those that waited longest in all first. */
export function detectWaits(log: EventLog | readonly LoggedEvent[], options: WaitOptions = {}): WaitProposal[] {
  const detector = new WaitDetector(options);
  const outputs = (options.output ?? [])[Symbol.iterator]();
  let output = outputs.next();
  for (const { time, event } of 'events' in log ? log.events : log) {
    // What came out at the time of an input may be its echo; if it came before, nobody has waited.
    for (; !output.done && output.value.time < time; output = outputs.next()) detector.output(output.value);
    detector.input(time, event);
  }
  return detector.proposals();
}

/** The name of a wait: the last line of what was put out before it that is not empty, without control sequences and numbers. */
export function promptOf(text: string): string {
  const line = withoutControls(text)
    .split(/[\r\n]+/)
    .map((part) => part.replace(/[\x00-\x1f\x7f]/g, '').trim())
    .findLast((part) => part !== '');
  return (line ?? '').replace(/[0-9]+/g, '#').slice(-MAX_PROMPT);
}

interface Counted {
  readonly bytes: Uint8Array;
  count: number;
}

/** Waits of one kind. */
class Group {
  occurrences = 0;
  shortest = 0n;
  longest = 0n;
  total = 0n;
  /** Answers by their bytes; when there are too many kinds those that came once go. */
  readonly answers = new Map<string, Counted>();

  add(duration: bigint, answer: Uint8Array | undefined): void {
    if (this.occurrences === 0 || duration < this.shortest) this.shortest = duration;
    if (duration > this.longest) this.longest = duration;
    this.occurrences++;
    this.total += duration;
    if (!answer) return;
    const key = keyOf(answer);
    const known = this.answers.get(key);
    if (known) known.count++;
    else if (makeRoom(this.answers, MAX_ANSWERS, ({ count }) => count === 1)) {
      this.answers.set(key, { bytes: answer, count: 1 });
    }
  }
}

/** Whether there is room for one more, after those that are worth least have gone. */
function makeRoom<T>(map: Map<string, T>, limit: number, isWorthless: (value: T) => boolean): boolean {
  if (map.size < limit) return true;
  for (const [key, value] of map) if (isWorthless(value)) map.delete(key);
  return map.size < limit;
}

function keyOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** An answer that may not be complete yet. */
interface Answer {
  /** How long was waited for it, and for what. */
  readonly duration: bigint;
  readonly prompt: string | undefined;
  readonly bytes: number[];
  isTooLong: boolean;
  /** The time of its last event. */
  last: bigint;
  /** The visible part of what was put out since it began. */
  echo: string;
  /** Something was put out that is no echo of it. */
  isOver: boolean;
}

/** What is known of one channel. */
class ChannelState {
  /** The end of what was put out since the last answer, as bytes. */
  line = '';
  spoke = false;
  /** The time of the last output or input; a wait begins here. */
  since: bigint | undefined;
  answer: Answer | undefined;
  readonly silent: { readonly duration: bigint; readonly answer: Uint8Array | undefined }[] = [];
}

export class WaitDetector {
  private readonly threshold: bigint;
  private readonly pause: bigint;
  private readonly occurrences: number;
  private readonly guesses: number;
  private readonly coverage: number;
  private readonly channels = new Map<Channel, ChannelState>();
  /** By channel and prompt. */
  private readonly groups = new Map<
    string,
    { readonly channel: Channel; readonly prompt: string; readonly group: Group }
  >();

  constructor(options: Omit<WaitOptions, 'output'> = {}) {
    this.threshold = options.threshold ?? 100_000_000n;
    this.pause = options.pause ?? 5_000_000_000n;
    this.occurrences = options.occurrences ?? 3;
    this.guesses = options.guesses ?? 4;
    this.coverage = options.coverage ?? 0.75;
  }

  /** Something came in at a guest time. */
  input(time: bigint, event: InputEvent): void {
    if (event.kind === 'port-open') this.reset(this.channel(event.port), event.port, time);
    if (event.kind !== 'console' && event.kind !== 'port') return;
    const name = event.kind === 'console' ? event.kind : event.port;
    const channel = this.channel(name);
    if (!channel || event.bytes.length === 0) return;
    if (!channel.answer || this.isComplete(channel.answer, time)) {
      this.finish(channel, name);
      this.begin(channel, time);
    }
    channel.since = time;
    if (channel.answer) extend(channel.answer, time, event.bytes);
  }

  /** Something was put out at a guest time. */
  output({ time, channel: name, bytes }: TimedOutput): void {
    const channel = this.channel(name);
    if (!channel || bytes.length === 0) return;
    // Only the end matters; a line is bytes until it is named.
    const text = keyOf(bytes.subarray(-MAX_LINE));
    const { answer } = channel;
    if (answer && !answer.isOver) {
      answer.echo += visible(withoutControls(text));
      answer.isOver = bytes.length > MAX_LINE || !isEcho(answer.echo, answer.bytes);
      // The prompt that comes next begins behind the echo.
      if (!answer.isOver) return;
    }
    channel.spoke = true;
    channel.since = time;
    channel.line = (channel.line + text).slice(-MAX_LINE);
  }

  /** The waits that were worth it so far. The last answer counts as complete. */
  proposals(): WaitProposal[] {
    for (const [name, channel] of this.channels) this.finish(channel, name);
    const found = [...this.groups.values()].map(({ channel, prompt, group }) => this.propose(channel, prompt, group));
    for (const [name, { silent }] of this.channels) {
      for (const group of clusters(silent)) found.push(this.propose(name, undefined, group));
    }
    return found
      .filter((proposal) => proposal !== undefined)
      .sort(
        (a, b) =>
          Number(b.total > a.total) - Number(b.total < a.total) ||
          order(`${a.channel}`, `${b.channel}`) ||
          order(a.prompt ?? '', b.prompt ?? ''),
      );
  }

  /** What is proposed for the wait that a channel is in now: the one for the prompt that was put out last. */
  expected(name: Channel): WaitProposal | undefined {
    const channel = this.channels.get(name);
    if (!channel?.spoke) return undefined;
    const prompt = promptOf(utf8(channel.line));
    return this.proposals().find((proposal) => proposal.channel === name && proposal.prompt === prompt);
  }

  private channel(name: Channel): ChannelState | undefined {
    let channel = this.channels.get(name);
    if (!channel && this.channels.size < MAX_CHANNELS) {
      channel = new ChannelState();
      this.channels.set(name, channel);
    }
    return channel;
  }

  /** Whoever is at the other end has changed: what is waited for begins now. */
  private reset(channel: ChannelState | undefined, name: Channel, time: bigint): void {
    if (!channel) return;
    this.finish(channel, name);
    channel.line = '';
    channel.spoke = false;
    channel.since = time;
  }

  /** Whether input at a time begins another answer. */
  private isComplete(answer: Answer, time: bigint): boolean {
    if (answer.isOver) return true;
    const gap = time - answer.last;
    const last = answer.bytes.at(-1);
    const isLine = last === 0x0a || last === 0x0d;
    return gap >= (isLine ? this.threshold : this.pause);
  }

  private begin(channel: ChannelState, time: bigint): void {
    const duration = channel.since === undefined ? 0n : time - channel.since;
    const prompt = channel.spoke ? promptOf(utf8(channel.line)) : '';
    const isWait = duration >= this.threshold;
    channel.answer = {
      duration: isWait ? duration : 0n,
      prompt: prompt === '' ? undefined : prompt,
      bytes: [],
      isTooLong: false,
      last: time,
      echo: '',
      isOver: false,
    };
    channel.spoke = false;
    channel.line = '';
  }

  /** Counts an answer with the wait that it ended. */
  private finish(channel: ChannelState, name: Channel): void {
    const { answer } = channel;
    channel.answer = undefined;
    if (!answer || answer.duration === 0n) return;
    const bytes = answer.isTooLong ? undefined : Uint8Array.from(edited(answer.bytes));
    if (answer.prompt === undefined) {
      if (channel.silent.length < MAX_SILENT) channel.silent.push({ duration: answer.duration, answer: bytes });
      return;
    }
    const key = `${name} ${answer.prompt}`;
    let known = this.groups.get(key);
    if (!known) {
      if (!makeRoom(this.groups, MAX_GROUPS, ({ group }) => group.occurrences === 1)) return;
      known = { channel: name, prompt: answer.prompt, group: new Group() };
      this.groups.set(key, known);
    }
    known.group.add(answer.duration, bytes);
  }

  private propose(channel: Channel, prompt: string | undefined, group: Group): WaitProposal | undefined {
    const { occurrences, shortest, longest, total } = group;
    if (occurrences < this.occurrences) return undefined;
    const answers = [...group.answers.values()]
      .filter(({ count }) => count > 1)
      .map(({ bytes, count }): WaitAnswer => ({ bytes, count, probability: count / occurrences }))
      .sort((a, b) => b.count - a.count || order(keyOf(a.bytes), keyOf(b.bytes)));
    const guesses: Uint8Array[] = [];
    let covered = 0;
    // One answer more that was none of the guesses: what was seen a few times only proves less (the rule of succession).
    const enough = this.coverage * (occurrences + 1);
    for (const { bytes, count } of answers) {
      if (guesses.length >= this.guesses || covered >= enough) break;
      guesses.push(bytes);
      covered += count;
    }
    if (guesses.length === 0 || covered < enough) return undefined;
    return { channel, prompt, occurrences, shortest, longest, total, answers, guesses };
  }
}

function extend(answer: Answer, time: bigint, bytes: Uint8Array): void {
  answer.last = time;
  const room = MAX_ANSWER - answer.bytes.length;
  if (bytes.length > room) answer.isTooLong = true;
  answer.bytes.push(...bytes.subarray(0, room));
}

/** Waits without a prompt, put together by how long they were. */
function clusters(waits: readonly { readonly duration: bigint; readonly answer: Uint8Array | undefined }[]): Group[] {
  const groups: Group[] = [];
  let before: bigint | undefined;
  for (const { duration, answer } of [...waits].sort((a, b) => Number(a.duration - b.duration))) {
    if (before === undefined || duration * 4n > before * SPREAD_QUARTERS) groups.push(new Group());
    groups.at(-1)!.add(duration, answer);
    before = duration;
  }
  return groups;
}

/** Whether what was put out is what a terminal shows of the keys typed: the beginning of them, or stars for them. */
function isEcho(shown: string, keys: readonly number[]): boolean {
  const typed = visible(keyOf(Uint8Array.from(keys)));
  return typed.startsWith(shown) || (shown.length <= typed.length && /^\*+$/.test(shown));
}

function visible(text: string): string {
  return text.replace(/[\x00-\x20\x7f]/g, '');
}

/** Text without the control sequences of terminals (ECMA-48, 5.4) and what xterm adds to them. */
function withoutControls(text: string): string {
  return text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]/g, '');
}

/** A line as the terminal gives it to the program: what was rubbed out is gone. */
function edited(keys: readonly number[]): number[] {
  const line: number[] = [];
  for (const key of keys) {
    if ((key === 0x7f || key === 0x08) && keys.length > 1) line.pop();
    else line.push(key);
  }
  return line;
}

/** The bytes of a line (one a character) as text. */
function utf8(line: string): string {
  return decodeText(Uint8Array.from(line, (character) => character.charCodeAt(0)));
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

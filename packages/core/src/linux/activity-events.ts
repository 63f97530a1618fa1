/**
 * What happened to the tasks of a guest: a list of events in typed arrays, in the order of guest time, 34 bytes an event.
 *
 * ```text
 * kind      time  step  hart   task             other                value
 * start     f64   f64   u8     on the hart                           what it is in: see CONTEXT
 * resting   at the start       on no hart                            as a switch has it
 * switch                       that leaves      that comes           why, what it waits in, its state: see `LEAVE`
 * wakeup                       that is woken    that ran meanwhile   what did it: see CONTEXT; + 2^16 x logical processor of the woken
 * fork                         the new one      its maker
 * name                         renamed          number of the name
 * exit                         that ends                             its code
 * call                         the caller       number of the system call
 * return                       the caller       the same             result
 * fault                        that meets it    cause                address, signed
 * mended                       the same
 * irq                          that ran         cause (1 other harts, 5 timer, 9 devices)
 * source                                        number at the interrupt controller
 * irq-end
 * softirq                      that ran
 * softirq-end
 * end       when the recording ended, for each hart
 * ```
 */

export const KINDS = [
  'start',
  'resting',
  'switch',
  'wakeup',
  'fork',
  'name',
  'exit',
  'call',
  'return',
  'fault',
  'mended',
  'irq',
  'source',
  'irq-end',
  'softirq',
  'softirq-end',
  'end',
] as const;
export type Kind = (typeof KINDS)[number];

/** What a task is in when it leaves a hart, or what wakes another: the system call n is `call + n`. */
export const CONTEXT = { none: 0, fault: 1, irq: 2, softirq: 18, call: 32 } as const;

export const LEAVE = ['preempted', 'blocked', 'yielded', 'exited'] as const;
export type Leave = (typeof LEAVE)[number];

/** The value of a switch: why + 4 * (state + 2^16 * context). */
export function packLeave(why: Leave, state: number, context: number): number {
  return LEAVE.indexOf(why) + 4 * ((state & 0xffff) + 0x10000 * context);
}

export function unpackLeave(value: number): { why: Leave; state: number; context: number } {
  const rest = Math.floor(value / 4);
  return { why: LEAVE[value % 4]!, state: rest % 0x10000, context: Math.floor(rest / 0x10000) };
}

export interface ActivityEvent {
  readonly kind: Kind;
  /** Guest time in ns. */
  readonly time: number;
  readonly step: number;
  readonly hart: number;
  /** Number of a task. */
  readonly task: number;
  readonly other: number;
  readonly value: number;
}

const CHUNK = 1 << 16;

class Chunk {
  readonly time = new Float64Array(CHUNK);
  readonly step = new Float64Array(CHUNK);
  readonly value = new Float64Array(CHUNK);
  readonly task = new Uint32Array(CHUNK);
  readonly other = new Uint32Array(CHUNK);
  readonly kind = new Uint8Array(CHUNK);
  readonly hart = new Uint8Array(CHUNK);
}

export class ActivityEvents {
  /** How many are kept at most, but for the last ones: those that say that it ended. */
  readonly limit: number;
  /** When there was no room for more. */
  full: { readonly time: number; readonly step: number } | undefined;
  private readonly chunks: Chunk[] = [];
  private count = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get length(): number {
    return this.count;
  }

  /** Adds an event. False when there is no room. */
  push(kind: Kind, time: number, step: number, hart: number, task: number, other: number, value: number): boolean {
    if (this.count >= this.limit && kind !== 'end') {
      this.full ??= { time, step };
      return false;
    }
    const at = this.count % CHUNK;
    if (at === 0) this.chunks.push(new Chunk());
    const chunk = this.chunks.at(-1)!;
    chunk.time[at] = time;
    chunk.step[at] = step;
    chunk.value[at] = value;
    chunk.task[at] = task;
    chunk.other[at] = other;
    chunk.kind[at] = KINDS.indexOf(kind);
    chunk.hart[at] = hart;
    this.count++;
    return true;
  }

  at(index: number): ActivityEvent {
    const chunk = this.chunks[Math.floor(index / CHUNK)]!;
    const at = index % CHUNK;
    return {
      kind: KINDS[chunk.kind[at]!]!,
      time: chunk.time[at]!,
      step: chunk.step[at]!,
      hart: chunk.hart[at]!,
      task: chunk.task[at]!,
      other: chunk.other[at]!,
      value: chunk.value[at]!,
    };
  }

  *[Symbol.iterator](): Generator<ActivityEvent> {
    for (let i = 0; i < this.count; i++) yield this.at(i);
  }
}

/**
 * What comes into a machine from outside: events, from whoever calls `input`, from the guest agent's client, or instead of both from a log
 * that is followed. They enter at slice boundaries, as far as there is room, and are logged as they do.
 */

import { AgentClient, type AgentState } from '../agent/client.ts';
import type { ExecHandle, ExecHandlers } from '../agent/program.ts';
import { END_OF_TIME } from '../devices/device.ts';
import type { UartReader } from '../devices/uart/device.ts';
import { AGENT } from '../devices/virtio-console/device.ts';
import { PoolFullError } from '../memory/pool.ts';
import { PIECE, WORK } from './account.ts';
import { HINT_RESULT } from './hints.ts';
import type { InputEvent, LogReader } from './log.ts';
import type { Machine } from './machine.ts';
import { MachineError } from './options.ts';
import { patchMemory } from './patch.ts';

/** What the host's end of the agent's port knows besides the machine's state: plain data. */
export interface LinkState {
  readonly agent: AgentState;
  readonly open: boolean;
  /** What the guest has sent and nobody has looked at. */
  readonly received: readonly Uint8Array[];
  /** It has sent more than that, which is lost. */
  readonly flooded: boolean;
  /** How the guest reads what is typed. */
  readonly reader: UartReader;
}

/**
 * What an agent may have sent and the client not have looked at, in bytes: so many, or so many a step of a slice. A guest copies at
 * most eight bytes with one instruction.
 */
const AGENT_HELD = 2 * 2 ** 20;
const AGENT_HELD_A_STEP = 8;
/** Lines that the client looks at, at one boundary. */
const LINES_AT_ONCE = 8192;

/** What a caller gives: an event, or what is typed on the serial console, which enters as `console` events when the guest reads it. */
export type Input = InputEvent | { readonly kind: 'typed'; readonly bytes: Uint8Array };

export class Inputs {
  /** The host's end of the guest agent. Its requests enter at boundaries. */
  readonly agent: AgentClient;
  private readonly machine: Machine;
  private readonly queue: Input[] = [];
  private readonly fromAgent: Uint8Array[] = [];
  /** Bytes of them, those of bookkeeping included. */
  private heard = 0;
  /** The agent has said more in a slice than the client listens to: the rest of it is lost. */
  private flooded = false;
  private agentOpen = false;
  /** Why what the client sent could not enter. */
  private refused: { readonly error: unknown } | undefined;
  /** The agent's client may send: events enter at boundaries only. */
  private admitting = false;
  /** More will be typed. */
  private expected = false;
  /** What a run waits with for that. */
  private arrival: PromiseWithResolvers<void> | undefined;
  /** The log that events are taken from, while they are. */
  following: LogReader | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
    this.agent = new AgentClient({ send: (bytes) => this.send(bytes), now: () => machine.now });
  }

  add(event: Input): void {
    this.queue.push(event);
    this.arrived();
  }

  /**
   * Whether more will be typed than has been. As long as it will, the machine waits where all of it has been let in: so what is typed piece
   * by piece enters where it would enter as a whole.
   */
  expect(more: boolean): void {
    this.expected = more;
    if (!more) this.arrived();
  }

  private arrived(): void {
    this.arrival?.resolve();
    this.arrival = undefined;
  }

  private awaitTyped(): Promise<void> | undefined {
    if (!this.expected || this.queue.some(({ kind }) => kind === 'typed' || kind === 'port')) return undefined;
    this.arrival ??= Promise.withResolvers();
    return this.arrival.promise;
  }

  /** Bytes that wait. */
  get backlog(): number {
    return this.queue.reduce((sum, event) => sum + ('bytes' in event ? event.bytes.length : 0), 0);
  }

  /** Takes out what waits. */
  takeAll(): Input[] {
    return this.queue.splice(0);
  }

  /** The guest has sent this to the agent's port. */
  received(bytes: Uint8Array): void {
    if (this.flooded) return;
    this.heard += bytes.length + PIECE;
    this.flooded = this.heard > Math.max(AGENT_HELD, AGENT_HELD_A_STEP * this.machine.schedule.slice);
    if (!this.flooded) this.fromAgent.push(bytes);
  }

  /** Whether the client has still to look at something. */
  get unheard(): boolean {
    return !this.following && (this.fromAgent.length > 0 || this.flooded);
  }

  /** The client hears what the guest has sent, up to so many lines at a time. */
  private hear(): void {
    const { agent, fromAgent } = this;
    let lines = LINES_AT_ONCE;
    let n = 0;
    while (n < fromAgent.length && lines > 0) {
      const bytes = fromAgent[n]!;
      const { taken, lines: some } = agent.receive(bytes, lines);
      lines -= some;
      if (taken < bytes.length) fromAgent[n] = bytes.subarray(taken);
      else n++;
    }
    fromAgent.splice(0, n);
    this.machine.account.worked((LINES_AT_ONCE - lines) * WORK.call);
    this.heard = fromAgent.reduce((sum, { length }) => sum + length + PIECE, 0);
    if (fromAgent.length > 0 || !this.flooded) return;
    this.flooded = false;
    agent.flooded();
  }

  /** Nothing that the guest has sent waits any more. */
  private forgetAgent(): void {
    this.fromAgent.length = 0;
    this.heard = 0;
    this.flooded = false;
  }

  /** When the agent's client wants to wake up; it hears nothing while a log is followed. */
  deadline(): bigint | undefined {
    const due = this.following ? undefined : this.agent.deadline();
    return due === undefined || due < END_OF_TIME ? due : undefined;
  }

  /**
   * At a boundary: lets in what has come. Before each event, what is due in the devices happens: so the order is the same however often
   * somebody came by here while the machine stood at this position, and a replay finds it again. Host data that is late, if it ended that.
   */
  letIn(): Promise<void> | undefined {
    const { following } = this;
    if (following) return this.follow(following);
    return this.admitQueue() ?? this.awaitTyped() ?? this.settle() ?? this.hearAgent();
  }

  private follow(log: LogReader): Promise<void> | undefined {
    const { machine } = this;
    const { position } = machine;
    let late = this.settle();
    while (!late) {
      const { now } = machine.clock;
      const event = log.take(position, now);
      if (!event) break;
      try {
        this.apply(event);
      } catch (error) {
        log.putBack();
        throw error;
      }
      machine.log.append(position, now, event);
      late = this.settle();
    }
    this.forgetAgent();
    return late;
  }

  private admitQueue(): Promise<void> | undefined {
    for (let i = 0; i < this.queue.length; ) {
      const late = this.settle();
      if (late) return late;
      // Taken out first: one that makes no sense throws, and does so once.
      const [event] = this.queue.splice(i, 1);
      try {
        const rest = event!.kind === 'typed' ? this.admitTyped(event.bytes) : this.admit(event!);
        if (rest) this.queue.splice(i++, 0, rest);
      } catch (error) {
        if (error instanceof PoolFullError) this.queue.splice(i, 0, event!);
        throw error;
      }
    }
    return undefined;
  }

  /** The agent's client hears what the guest has sent, and sends. */
  private hearAgent(): undefined {
    const { agent, machine } = this;
    this.admitting = true;
    try {
      const open = machine.platform.console.guestOpen(AGENT);
      if (open !== this.agentOpen) {
        this.agentOpen = open;
        if (open) this.admit({ kind: 'port-open', port: AGENT, open: true });
        agent.connected(open);
      }
      this.hear();
      const due = agent.deadline();
      if (due !== undefined && due <= machine.clock.now) agent.advance(machine.clock.now);
      agent.pump();
    } finally {
      this.admitting = false;
    }
    const { refused } = this;
    this.refused = undefined;
    if (refused) throw refused.error;
  }

  /** Has the devices do what is due; host data for one, if it is late. */
  private settle(): Promise<void> | undefined {
    return this.machine.platform.advance(this.machine.clock.now);
  }

  /** Applies an event and logs what of it was taken; returns what was not. */
  admit(event: InputEvent): InputEvent | undefined {
    const { log, position, clock } = this.machine;
    const { now } = clock;
    const taken = this.apply(event);
    if (!('bytes' in event)) {
      log.append(position, now, event);
      return undefined;
    }
    // A copy: the array is the caller's.
    if (event.kind === 'frame' || taken === event.bytes.length) {
      log.append(position, now, { ...event, bytes: event.bytes.slice() });
      return undefined;
    }
    if (taken > 0) log.append(position, now, { ...event, bytes: event.bytes.slice(0, taken) });
    return { ...event, bytes: event.bytes.subarray(taken) };
  }

  /** Lets in as much as the guest would read now; the rest it would throw away. */
  private admitTyped(bytes: Uint8Array): Input | undefined {
    const offered = bytes.subarray(0, this.machine.platform.uart.ready);
    const refused = offered.length === 0 ? undefined : this.admit({ kind: 'console', bytes: offered });
    const taken = offered.length - (refused && 'bytes' in refused ? refused.bytes.length : 0);
    return taken === bytes.length ? undefined : { kind: 'typed', bytes: bytes.subarray(taken) };
  }

  /** Changes the machine, or throws and has not; for bytes, how many were taken. */
  private apply(event: InputEvent): number {
    const { uart, console, net, entropy } = this.machine.platform;
    this.machine.lookAround();
    return this.machine.undo.whole([uart, console, net, entropy], () => this.enter(event));
  }

  private enter(event: InputEvent): number {
    const { machine } = this;
    const { uart, console, net, entropy } = machine.platform;
    switch (event.kind) {
      case 'console':
        return uart.receive(event.bytes);
      case 'port':
        return console.send(event.port, event.bytes);
      case 'port-open':
        console.setOpen(event.port, event.open);
        return 0;
      case 'resize':
        console.resize(event.columns, event.rows);
        return 0;
      case 'time':
        machine.clock.now += event.advance;
        return 0;
      case 'skip-idle':
        machine.skipIdle = event.on;
        return 0;
      case 'frame':
        net.receive(event.bytes);
        return 0;
      case 'link':
        net.setLink(event.up);
        return 0;
      case 'reseed':
        entropy.reseed(event.seed);
        return 0;
      case 'address':
        net.setAddress(event.mac);
        return 0;
      case 'hint': {
        const { hart, value, writes = [] } = event;
        if (hart >= machine.harts) throw new MachineError(`an answer to hart ${hart} of ${machine.harts}`);
        machine.hartSet.setX(hart, HINT_RESULT, patchMemory(machine, hart, writes) ? BigInt.asUintN(64, value) : 0n);
        return 0;
      }
    }
  }

  /** For the agent's client, which runs at boundaries. */
  private send(bytes: Uint8Array): number {
    // Requests that somebody makes at another time wait for the next boundary, and so do those that meet a late device.
    if (!this.admitting || this.settle()) return 0;
    let rest: InputEvent | undefined;
    try {
      rest = this.admit({ kind: 'port', port: AGENT, bytes });
    } catch (error) {
      // The client is in the middle of something, and keeps what is not taken.
      this.refused ??= { error };
      return 0;
    }
    return bytes.length - (rest && 'bytes' in rest ? rest.bytes.length : 0);
  }

  saveLink(): LinkState {
    return {
      agent: this.agent.save(),
      open: this.agentOpen,
      received: this.fromAgent.slice(),
      flooded: this.flooded,
      reader: this.machine.platform.uart.reader,
    };
  }

  /** See `AgentClient.restore`. */
  restoreLink(
    { agent, open, received, flooded, reader }: LinkState,
    handlersOf?: (key: string) => ExecHandlers | undefined,
  ): Map<string, ExecHandle> {
    this.machine.platform.uart.reader = reader;
    this.agentOpen = open;
    this.forgetAgent();
    for (const bytes of received) this.received(bytes);
    this.flooded = flooded;
    return this.agent.restore(agent, handlersOf);
  }
}

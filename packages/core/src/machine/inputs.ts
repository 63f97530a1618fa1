/**
 * What comes into a machine from outside: events, from whoever calls `input`, from the guest agent's client, or instead of both from a log
 * that is followed. They enter at slice boundaries, as far as there is room, and are logged as they do.
 */

import { AgentClient, type AgentState } from '../agent/client.ts';
import type { ExecHandle, ExecHandlers } from '../agent/program.ts';
import { AGENT } from '../devices/virtio-console/device.ts';
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
}

export class Inputs {
  /** The host's end of the guest agent. Its requests enter at boundaries. */
  readonly agent: AgentClient;
  private readonly machine: Machine;
  private readonly queue: InputEvent[] = [];
  private readonly fromAgent: Uint8Array[] = [];
  private agentOpen = false;
  /** The agent's client may send: events enter at boundaries only. */
  private admitting = false;
  /** The log that events are taken from, while they are. */
  following: LogReader | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
    this.agent = new AgentClient({ send: (bytes) => this.send(bytes), now: () => machine.now });
  }

  add(event: InputEvent): void {
    this.queue.push(event);
  }

  /** Bytes that wait. */
  get backlog(): number {
    return this.queue.reduce((sum, event) => sum + ('bytes' in event ? event.bytes.length : 0), 0);
  }

  /** Takes out what waits. */
  takeAll(): InputEvent[] {
    return this.queue.splice(0);
  }

  /** The guest has sent this to the agent's port. */
  received(bytes: Uint8Array): void {
    this.fromAgent.push(bytes);
  }

  /** When the agent's client wants to wake up; it hears nothing while a log is followed. */
  deadline(): bigint | undefined {
    return this.following ? undefined : this.agent.deadline();
  }

  /**
   * At a boundary: lets in what has come. Before each event, what is due in the devices happens: so the order is the same however often
   * somebody came by here while the machine stood at this position, and a replay finds it again. Host data that is late, if it ended that.
   */
  letIn(): Promise<void> | undefined {
    const { following } = this;
    return following ? this.follow(following) : (this.admitQueue() ?? this.settle() ?? this.hearAgent());
  }

  private follow(log: LogReader): Promise<void> | undefined {
    const { machine } = this;
    const { position } = machine;
    let late = this.settle();
    while (!late) {
      const event = log.take(position, machine.clock.now);
      if (!event) break;
      machine.log.append(position, machine.clock.now, event);
      this.apply(event);
      late = this.settle();
    }
    this.fromAgent.length = 0;
    return late;
  }

  private admitQueue(): Promise<void> | undefined {
    for (let i = 0; i < this.queue.length; ) {
      const late = this.settle();
      if (late) return late;
      // Taken out first: one that makes no sense throws, and does so once.
      const [event] = this.queue.splice(i, 1);
      const rest = this.admit(event!);
      if (rest) this.queue.splice(i++, 0, rest);
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
      for (let bytes = this.fromAgent.shift(); bytes; bytes = this.fromAgent.shift()) agent.receive(bytes);
      const due = agent.deadline();
      if (due !== undefined && due <= machine.clock.now) agent.advance(machine.clock.now);
      agent.pump();
    } finally {
      this.admitting = false;
    }
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

  /** Changes the machine; for bytes, how many were taken. */
  private apply(event: InputEvent): number {
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
    const { platform, log, position, clock } = this.machine;
    // Requests that somebody makes at another time wait for the next boundary, and so do those that meet a late device.
    if (!this.admitting || this.settle()) return 0;
    const taken = platform.console.send(AGENT, bytes);
    if (taken > 0) log.append(position, clock.now, { kind: 'port', port: AGENT, bytes: bytes.slice(0, taken) });
    return taken;
  }

  saveLink(): LinkState {
    return { agent: this.agent.save(), open: this.agentOpen, received: this.fromAgent.slice() };
  }

  /** See `AgentClient.restore`. */
  restoreLink(
    { agent, open, received }: LinkState,
    handlersOf?: (key: string) => ExecHandlers | undefined,
  ): Map<string, ExecHandle> {
    this.agentOpen = open;
    this.fromAgent.splice(0, this.fromAgent.length, ...received);
    return this.agent.restore(agent, handlersOf);
  }
}

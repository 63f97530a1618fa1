/**
 * What a machine's host wants to hear of before it happens: system calls of programs, and the begin and the end of replay-only code
 * (`docs/replay-only.md`). Like breakpoints they are the host's, no part of the state, and whether there are any changes nothing that the
 * guest can see: the instruction makes the same step.
 *
 * A run ends before the instruction that an interception wants; the next run begins with it, and does not ask again. Each costs
 * a call of the host where somebody listens to its kind, and next to nothing where nobody does.
 */

import type { Engine, EngineHost } from '../engine/engine.ts';
import { HEARS, REPLAY_ONLY } from '../hart/state.ts';
import { MachineError, type Stop } from './options.ts';

/** Where the program says which replay-only code it is: a0. */
const CODE = 10;

export interface ReplayOnlyHint {
  readonly hart: number;
  readonly phase: 'begin' | 'end';
  /** The number that the program has given it. */
  readonly code: bigint;
}

/** `condition` may look at the machine, and changes nothing. The run goes on where it says no. */
export type Interception =
  | { readonly kind: 'system-call'; readonly condition?: (hart: number) => boolean }
  | { readonly kind: 'replay-only'; readonly condition?: (hint: ReplayOnlyHint) => boolean };

type Intercepted = Extract<Stop, { reason: 'system-call' | 'replay-only' }>;

export interface InterceptedMachine extends EngineHost {
  readonly engine: Engine;
  readonly schedule: { readonly hart: number };
}

export class Interceptions {
  private readonly machine: InterceptedMachine;
  private readonly all = new Map<number, Interception>();
  private nextId = 1;
  private hit: { readonly stop: Intercepted; readonly address: bigint } | undefined;
  /** Where the machine stands since a hit, and no step has been made. */
  private standing: { readonly hart: number; readonly address: bigint } | undefined;
  /** Where the run under way has begun at a place that has been told, and the steps that were left of it there. */
  private told: { readonly address: bigint; readonly left: number } | undefined;

  constructor(machine: InterceptedMachine) {
    this.machine = machine;
  }

  /** Bits of HEARS. */
  get hears(): number {
    let bits = 0;
    for (const { kind } of this.all.values()) bits |= kind === 'system-call' ? HEARS.systemCalls : HEARS.replayOnly;
    return bits;
  }

  add(interception: Interception): number {
    const { kind } = interception;
    if (kind !== 'system-call' && kind !== 'replay-only') throw new MachineError(`${kind} cannot be intercepted`);
    const id = this.nextId++;
    this.all.set(id, interception);
    this.machine.engine.hearsChanged(this.machine);
    return id;
  }

  /** Takes one away; false when there is none of that name. */
  delete(id: number): boolean {
    const deleted = this.all.delete(id);
    this.machine.engine.hearsChanged(this.machine);
    return deleted;
  }

  /** A run of the engine begins, of so many steps at most. */
  begin(budget: number): void {
    // A stop that was not told, because an output threw, comes again.
    if (this.hit) this.standing = undefined;
    this.hit = undefined;
    const { standing } = this;
    const here = standing?.hart === this.machine.schedule.hart;
    this.told = here ? { address: standing.address, left: budget - 1 } : undefined;
  }

  /** It is over. */
  end(steps: number): void {
    const { hit } = this;
    if (steps > 0 || hit) this.standing = hit && { hart: hit.stop.hart, address: hit.address };
  }

  /** The stop that it has come to, if it has; once. */
  take(): Intercepted | undefined {
    const { hit } = this;
    this.hit = undefined;
    return hit?.stop;
  }

  /** The machine has become another one. */
  renew(): void {
    this.hit = undefined;
    this.standing = undefined;
  }

  systemCall(): void {
    const { hart } = this.machine.schedule;
    this.ask(
      (interception) => interception.kind === 'system-call' && (interception.condition?.(hart) ?? true),
      (ids) => ({ reason: 'system-call', hart, ids }),
    );
  }

  /** Whether the hint of that number is one of these, which do nothing whether or not somebody listens. */
  hint(number: number): boolean {
    const phase = number === REPLAY_ONLY.begin ? 'begin' : number === REPLAY_ONLY.end ? 'end' : undefined;
    if (phase === undefined) return false;
    const { engine, schedule } = this.machine;
    const hint: ReplayOnlyHint = { hart: schedule.hart, phase, code: engine.getX(CODE) };
    this.ask(
      (interception) => interception.kind === 'replay-only' && (interception.condition?.(hint) ?? true),
      (ids) => ({ reason: 'replay-only', ...hint, ids }),
    );
    return true;
  }

  private ask(wants: (interception: Interception) => boolean, stop: (ids: number[]) => Intercepted): void {
    const { engine } = this.machine;
    const address = engine.get('pc');
    if (this.told?.left === engine.left && this.told.address === address) return;
    const ids = [...this.all].filter(([, interception]) => wants(interception)).map(([id]) => id);
    if (ids.length === 0) return;
    this.hit = { stop: stop(ids), address };
    engine.standBefore();
  }
}

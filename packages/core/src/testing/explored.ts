/** A host for searches: trees of states that a seed makes up, moves that take their time, and counts of what is held. */

import assert from 'node:assert/strict';
import type { BranchContext, Branched, Explored } from '../branch/explore.ts';
import { Random } from './random.ts';

/** What a move does, by its path. */
export interface Deed {
  readonly moves: number;
  readonly steps: bigint;
  readonly score: number;
  readonly stop: boolean;
  readonly key: string;
  readonly ended: string | undefined;
  readonly failed: 'branch' | 'stop' | 'score' | 'moves' | undefined;
}

export type World = (path: readonly number[]) => Deed;

/** A world with small numbers, so that equal ones are common. */
export function randomWorld(seed: number): World {
  return (path) => {
    const random = new Random(path.reduce((sum, place) => Math.imul(sum ^ (place + 1), 0x01000193), seed));
    const failed =
      random.chance(0.15) && path.length > 0 ? random.pick(['branch', 'stop', 'score', 'moves'] as const) : undefined;
    return {
      moves: random.below(path.length > 4 ? 2 : 4) + (path.length === 0 ? 1 : 0),
      steps: random.chance(0.1) ? 1_000_000n : BigInt(random.below(12)),
      score: random.below(6),
      stop: path.length > 0 && random.chance(0.06),
      key: String(random.below(60)),
      ended: random.chance(0.1) && path.length > 0 ? 'off' : undefined,
      failed,
    };
  };
}

/** A world from a nested list: `[steps, score, ...children]`, with `!` after the score in a string for what is looked for. */
export type Plan = readonly [steps: number, score: number | string, ...children: Plan[]];

export function planned(plan: Plan): World {
  return (path) => {
    let at = plan;
    for (const place of path) at = at[place + 2] as Plan;
    const text = String(at[1]);
    return {
      moves: at.length - 2,
      steps: BigInt(at[0]),
      score: Number.parseFloat(text),
      stop: text.endsWith('!'),
      key: text,
      ended: text.endsWith('.') ? 'off' : undefined,
      failed: text.endsWith('?') ? 'branch' : undefined,
    };
  };
}

export class FakeHost {
  readonly world: World;
  /** Decides what may not matter. */
  readonly timing: Random;
  /** States that are held. */
  live = 0;
  /** Moves that go on, and the most that did at once. */
  busy = 0;
  most = 0;
  /** How many turns of the event loop a call takes at most. */
  readonly delay: number;

  constructor(world: World, timing = 1, delay = 3) {
    this.world = world;
    this.timing = new Random(timing);
    this.delay = delay;
  }

  root(): FakeState {
    return new FakeState(this, []);
  }

  async wait(): Promise<void> {
    for (let turns = this.timing.below(this.delay + 1); turns > 0; turns--) {
      if (this.timing.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
      else await undefined;
    }
  }
}

export class FakeState implements Explored<number, FakeState> {
  readonly host: FakeHost;
  readonly path: readonly number[];
  released = false;
  /** Calls that go on for it. */
  private calls = 0;

  constructor(host: FakeHost, path: readonly number[]) {
    this.host = host;
    this.path = path;
    host.live++;
  }

  get deed(): Deed {
    assert.ok(!this.released, `asked about [${this.path}] after its release`);
    return this.host.world(this.path);
  }

  branch(moves: readonly number[], context: BranchContext): Promise<Branched<FakeState>>[] {
    assert.ok(!this.released, `branched from [${this.path}] after its release`);
    return moves.map((move) => this.make(move, context));
  }

  private async make(move: number, { signal, limit }: BranchContext): Promise<Branched<FakeState>> {
    const { host } = this;
    this.calls++;
    host.most = Math.max(host.most, ++host.busy);
    try {
      await host.wait();
      const path = [...this.path, move];
      const { steps, ended, failed } = host.world(path);
      if (signal.aborted && host.timing.chance(0.5)) throw signal.reason;
      const most = limit();
      // What goes beyond the limit may come back early, or fail or not: it is the host's choice.
      const beyond = most !== undefined && steps > most && (steps === 1_000_000n || host.timing.chance(0.7));
      if (beyond) return { state: new FakeState(host, path), steps: most + 1n + BigInt(host.timing.below(3)) };
      if (failed === 'branch') throw Object.assign(new Error(`no ${path}`), { steps });
      return { state: new FakeState(host, path), steps, ...(ended ? { ended } : {}) };
    } finally {
      host.busy--;
      this.calls--;
    }
  }

  async release(): Promise<void> {
    assert.ok(!this.released, `[${this.path}] released twice`);
    assert.equal(this.calls, 0, `[${this.path}] released while it branches`);
    this.released = true;
    this.host.live--;
    await this.host.wait();
  }
}

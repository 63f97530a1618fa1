/**
 * The platform-level interrupt controller, compatible with SiFive's, as on QEMU's `virt`.
 *
 *   offset                       register (32 bits each)
 *   0x000000 + 4 * source        priority of a source (0 = never interrupts)
 *   0x001000 + 4 * word          pending bits
 *   0x002000 + 0x80 * context    enable bits of a context
 *   0x200000 + 0x1000 * context  threshold of a context
 *   0x200004 + 0x1000 * context  read: claim, write: complete
 *
 * Each hart has two contexts, M then S: context 2h is hart h in M-mode, 2h + 1 in S-mode.
 *
 * Gateways are those of edge-triggered sources that count to one (RISC-V PLIC specification, "Interrupt Gateways").
 * The edge is a device's report of a high level: it makes a request, which waits while the one before is served. A level
 * that merely stays high makes none. QEMU's controller is made like this, and drivers that never clear the cause in their
 * device depend on it: with level-triggered gateways they are interrupted for ever. docs/devices.md compares the two.
 */

import type { AccessSize, Device } from '../device.ts';
import {
  checkPlic,
  initialPlic,
  PLIC_VERSION,
  type PlicContextState,
  type PlicState,
  PRIORITY_MASK,
  SOURCES,
  WORDS,
} from './state.ts';

/** Bytes of the register window. */
export const PLIC_SIZE = 0x60_0000;

const PENDING_BASE = 0x1000;
const ENABLE_BASE = 0x2000;
const ENABLE_STRIDE = 0x80;
const CONTEXT_BASE = 0x20_0000;
const CONTEXT_STRIDE = 0x1000;
const THRESHOLD = 0;
const CLAIM = 4;

/** What the machine gives to the controller: the external interrupt lines of its harts. */
export interface PlicContext {
  readonly harts: number;
  /** Drives the line of one hart and mode; calls that change nothing are free. */
  setExternal(hart: number, mode: 'M' | 'S', level: boolean): void;
}

export class Plic implements Device<PlicState> {
  readonly #context: PlicContext;
  #state: PlicState;

  constructor(context: PlicContext) {
    this.#context = context;
    this.#state = initialPlic(context.harts);
  }

  /** A device reports the level of its line, which may be the same as before; `source` is 1 to 95. */
  setLevel(source: number, level: boolean): void {
    if (!Number.isInteger(source) || source < 1 || source >= SOURCES) {
      throw new RangeError(`the interrupt controller has no source ${source}`);
    }
    const { pending, claimed } = this.#state;
    if (!level || has(pending, source)) return;
    put(pending, source, true);
    if (!has(claimed, source)) this.#updateLines();
  }

  read(offset: number, size: AccessSize): number {
    if (size !== 4 || offset % 4 !== 0) return 0;
    const { priorities, pending, contexts } = this.#state;
    if (offset < PENDING_BASE) return priorities[offset / 4] ?? 0;
    if (offset < ENABLE_BASE) return pending[(offset - PENDING_BASE) / 4] ?? 0;
    if (offset < CONTEXT_BASE) {
      const context = contexts[Math.floor((offset - ENABLE_BASE) / ENABLE_STRIDE)];
      return context?.enabled[((offset - ENABLE_BASE) % ENABLE_STRIDE) / 4] ?? 0;
    }
    const context = contexts[Math.floor((offset - CONTEXT_BASE) / CONTEXT_STRIDE)];
    if (context === undefined) return 0;
    switch ((offset - CONTEXT_BASE) % CONTEXT_STRIDE) {
      case THRESHOLD:
        return context.threshold;
      case CLAIM:
        return this.#claim(context);
      default:
        return 0;
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4 || offset % 4 !== 0) return;
    const { priorities, contexts } = this.#state;
    if (offset < PENDING_BASE) {
      const source = offset / 4;
      if (source > 0 && source < SOURCES) priorities[source] = value & PRIORITY_MASK;
    } else if (offset < ENABLE_BASE) {
      // Pending bits are read-only: requests come from gateways and go by being claimed.
      return;
    } else if (offset < CONTEXT_BASE) {
      const context = contexts[Math.floor((offset - ENABLE_BASE) / ENABLE_STRIDE)];
      const word = ((offset - ENABLE_BASE) % ENABLE_STRIDE) / 4;
      if (context === undefined || word >= WORDS) return;
      context.enabled[word] = (word === 0 ? value & ~1 : value) >>> 0;
    } else {
      const context = contexts[Math.floor((offset - CONTEXT_BASE) / CONTEXT_STRIDE)];
      if (context === undefined) return;
      switch ((offset - CONTEXT_BASE) % CONTEXT_STRIDE) {
        case THRESHOLD:
          context.threshold = value & PRIORITY_MASK;
          break;
        case CLAIM:
          this.#complete(value);
          break;
        default:
          return;
      }
    }
    this.#updateLines();
  }

  deadline(): bigint | undefined {
    return undefined;
  }

  advance(_now: bigint): Promise<void> | undefined {
    return undefined;
  }

  reset(): void {
    this.#state = initialPlic(this.#context.harts);
    this.#updateLines();
  }

  save(): PlicState {
    const { pending, claimed, priorities, contexts } = this.#state;
    return {
      version: PLIC_VERSION,
      pending: [...pending],
      claimed: [...claimed],
      priorities: [...priorities],
      contexts: contexts.map(({ enabled, threshold }) => ({ enabled: [...enabled], threshold })),
    };
  }

  restore(state: unknown): void {
    this.#state = checkPlic(state, this.#context.harts);
    this.#updateLines();
  }

  /** Takes the best request of a context; the threshold holds interrupts back but not claims. */
  #claim(context: PlicContextState): number {
    const source = this.#best(context, 0);
    if (source === 0) return 0;
    put(this.#state.pending, source, false);
    put(this.#state.claimed, source, true);
    this.#updateLines();
    return source;
  }

  /** Ends the service of a source, whichever context says so and whatever it has enabled, as on QEMU. */
  #complete(source: number): void {
    if (source > 0 && source < SOURCES) put(this.#state.claimed, source, false);
  }

  /** The enabled request of the highest priority above `floor`, the lowest number among equals; 0 when there is none. */
  #best(context: PlicContextState, floor: number): number {
    const { pending, claimed, priorities } = this.#state;
    let best = 0;
    let priority = floor;
    for (let word = 0; word < WORDS; word++) {
      let requests = (pending[word] as number) & ~(claimed[word] as number) & (context.enabled[word] as number);
      while (requests !== 0) {
        const bit = 31 - Math.clz32(requests & -requests);
        requests &= requests - 1;
        const source = 32 * word + bit;
        if ((priorities[source] as number) > priority) {
          best = source;
          priority = priorities[source] as number;
        }
      }
    }
    return best;
  }

  #updateLines(): void {
    for (const [index, context] of this.#state.contexts.entries()) {
      this.#context.setExternal(
        index >> 1,
        (index & 1) === 0 ? 'M' : 'S',
        this.#best(context, context.threshold) !== 0,
      );
    }
  }
}

function has(bitmap: readonly number[], source: number): boolean {
  return (((bitmap[source >> 5] as number) >>> (source & 31)) & 1) !== 0;
}

function put(bitmap: number[], source: number, value: boolean): void {
  const word = bitmap[source >> 5] as number;
  const bit = 1 << (source & 31);
  bitmap[source >> 5] = (value ? word | bit : word & ~bit) >>> 0;
}

/** What the interrupt controller remembers: bitmaps are arrays of 32-bit words, source 0 does not exist. */

import { Fields, integers } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';

/** Sources 1 to 95; source 0 means "none". */
export const SOURCES = 96;
export const WORDS = SOURCES / 32;

/** Priorities and thresholds have three bits, as on QEMU's `virt`. */
export const PRIORITY_MASK = 7;

/** Version 1 had level-triggered gateways: a machine with such a record goes on in another way than it did there. */
export const PLIC_VERSION = 2;

export interface PlicState {
  readonly version: typeof PLIC_VERSION;
  /** Requests that wait to be claimed. */
  pending: number[];
  /** Claimed and not completed: a further request cannot be claimed. */
  claimed: number[];
  /** Of each source. */
  priorities: number[];
  contexts: PlicContextState[];
}

export interface PlicContextState {
  enabled: number[];
  threshold: number;
}

export function initialPlic(harts: number): PlicState {
  const zeros = (count: number) => new Array<number>(count).fill(0);
  return {
    version: PLIC_VERSION,
    pending: zeros(WORDS),
    claimed: zeros(WORDS),
    priorities: zeros(SOURCES),
    contexts: Array.from({ length: 2 * harts }, () => ({ enabled: zeros(WORDS), threshold: 0 })),
  };
}

export function checkPlic(record: unknown, harts: number, where = 'plic'): PlicState {
  const fields = new Fields(record, where);
  const version = fields.version(PLIC_VERSION, 1);
  const bitmap = (from: Fields, name: string) => {
    const words = from.values(name, WORDS, WORDS, integers(0, 0xffff_ffff));
    if (((words[0] as number) & 1) !== 0) throw new StateError(`${from.where}.${name}[0]`, 'source 0 does not exist');
    return words;
  };
  const pending = bitmap(fields, 'pending');
  const claimed = bitmap(fields, 'claimed');
  if (version === 1) {
    // Levels were looked at when a service was completed: what was high then made a request.
    const levels = bitmap(fields, 'levels');
    for (const [word, level] of levels.entries()) {
      pending[word] = ((pending[word] as number) | (level & (claimed[word] as number))) >>> 0;
    }
  }
  const state: PlicState = {
    version: PLIC_VERSION,
    pending,
    claimed,
    priorities: fields.values('priorities', SOURCES, SOURCES, integers(0, PRIORITY_MASK)),
    contexts: fields.list('contexts', 2 * harts, 2 * harts, (value, path) => {
      const context = new Fields(value, path);
      const checked: PlicContextState = {
        enabled: bitmap(context, 'enabled'),
        threshold: context.integer('threshold', 0, PRIORITY_MASK),
      };
      context.end();
      return checked;
    }),
  };
  fields.end();
  if (state.priorities[0] !== 0) throw new StateError(`${where}.priorities[0]`, 'source 0 does not exist');
  return state;
}

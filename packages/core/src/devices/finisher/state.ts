/** The finisher remembers nothing; its record says only which form it has. */

import { Fields } from '../../state/check.ts';

export interface FinisherState {
  readonly version: 1;
}

export function initialFinisher(): FinisherState {
  return { version: 1 };
}

export function checkFinisher(record: unknown, where = 'finisher'): FinisherState {
  const fields = new Fields(record, where);
  fields.version(1);
  fields.end();
  return { version: 1 };
}

import type { BenchReport } from '../harness.ts';
export const formatPlot = (report: BenchReport): string => report.bench;

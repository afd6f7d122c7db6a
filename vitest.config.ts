import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // Two files at a time: tests start servers that use every core themselves.
    maxWorkers: 2,
  },
});

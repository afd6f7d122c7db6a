// Loaded before the server: answers its parent's questions about memory, with the garbage collected.

process.on('message', () => {
  global.gc();
  const { rss, heapUsed, external } = process.memoryUsage();
  process.send({ rss, heapUsed, external });
});

// Exit code 0 when the server inside this container answers 200 on /health.
const port = process.env.QUIRE_PORT || 8000;
const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
process.exit(answer?.ok ? 0 : 1);

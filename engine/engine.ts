// The engine without the server: `import { Engine } from 'quire'`.

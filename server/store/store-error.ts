/** What kept a store from opening, for the person at the terminal. */
export class StoreError extends Error {}

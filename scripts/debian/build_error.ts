/** Whoever builds something from Debian's packages is told what to do, in one line. */
export class BuildError extends Error {}

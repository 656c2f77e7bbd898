/**
 * What the array's document has of some volumes, mappings and reservations: it goes along when they move to the other half.
 */
import type { ArrayDocument, HostEntry } from "./array_document.ts";

/** Mappings name a volume, reservations its UUID. */
export interface VolumeNames {
  readonly volumes: readonly string[];
  readonly uuids: readonly string[];
}

export interface Belongings {
  readonly mappings: readonly { readonly host: string; readonly mapping: HostEntry["mappings"][number] }[];
  readonly reservations: ArrayDocument["reservations"];
}

export const nothing: Belongings = { mappings: [], reservations: {} };

export function belongingsOf({ hosts, reservations }: ArrayDocument, { volumes, uuids }: VolumeNames): Belongings {
  return {
    mappings: hosts.flatMap((host) =>
      host.mappings.filter(({ volume }) => volumes.includes(volume)).map((mapping) => ({ host: host.name, mapping })),
    ),
    reservations: Object.fromEntries(Object.entries(reservations).filter(([uuid]) => uuids.includes(uuid))),
  };
}

/** The document with `belongings` in place of whatever it had of these volumes. */
export function withBelongings(
  document: ArrayDocument,
  { volumes, uuids }: VolumeNames,
  belongings: Belongings,
): ArrayDocument {
  const hosts = document.hosts.map((host) => ({
    ...host,
    mappings: [
      ...host.mappings.filter(({ volume }) => !volumes.includes(volume)),
      ...belongings.mappings.filter((one) => one.host === host.name).map(({ mapping }) => mapping),
    ].sort((a, b) => a.lun - b.lun),
  }));
  const others = Object.entries(document.reservations).filter(([uuid]) => !uuids.includes(uuid));
  return { ...document, hosts, reservations: { ...Object.fromEntries(others), ...belongings.reservations } };
}

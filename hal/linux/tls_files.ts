/**
 * The certificate with which host ports speak TLS, out of its files.
 *
 * Invariant: what is accepted here works in a handshake; every refusal is one line with the field, the file and the remedy.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { causeOf } from "./address.ts";

export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  /** Whose client certificates are accepted; null: hosts need none. */
  readonly ca: string | null;
}

export interface TlsCredentials {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly caPem: string | null;
  /** To tell the operator; nothing that keeps hosts out for certain, as clocks differ. */
  readonly warnings: readonly string[];
}

/** A chain of ten certificates of 4096-bit keys has 20 KiB. */
const pemBytesMax = 256 * 1024;
const certificateBlock = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export function readTlsFiles(files: TlsFiles, nowMs: number): TlsCredentials | { readonly error: string } {
  const chain = readCertificates("tls.certificate", files.certificate);
  if ("error" in chain) return chain;
  const authorities = files.ca === null ? null : readCertificates("tls.ca", files.ca);
  if (authorities !== null && "error" in authorities) return authorities;
  const keyPem = readBounded("tls.key", files.key);
  if (typeof keyPem !== "string") return keyPem;
  let key: KeyObject;
  try {
    key = createPrivateKey(keyPem);
  } catch {
    return { error: `tls.key: ${files.key} has no private key in PEM form that can be used without a passphrase` };
  }
  if (!chain.certificates[0]!.checkPrivateKey(key)) {
    return {
      error: `tls.key: ${files.key} is not the key of the certificate in ${files.certificate}; give its own key`,
    };
  }
  const warnings = [
    ...validityWarnings(files.certificate, chain.certificates, nowMs),
    ...validityWarnings(files.ca ?? "", authorities?.certificates ?? [], nowMs),
  ];
  return { certificatePem: chain.pem, keyPem, caPem: authorities?.pem ?? null, warnings };
}

interface Certificates {
  readonly pem: string;
  readonly certificates: readonly X509Certificate[];
}

function readCertificates(field: string, path: string): Certificates | { readonly error: string } {
  const pem = readBounded(field, path);
  if (typeof pem !== "string") return pem;
  const blocks = pem.match(certificateBlock) ?? [];
  if (blocks.length === 0) return { error: `${field}: ${path} has no certificate in PEM form; give a PEM file` };
  const certificates: X509Certificate[] = [];
  for (const [index, block] of blocks.entries()) {
    try {
      certificates.push(new X509Certificate(block));
    } catch {
      return { error: `${field}: certificate ${index + 1} in ${path} is damaged; give a PEM file` };
    }
  }
  return { pem, certificates };
}

function readBounded(field: string, path: string): string | { readonly error: string } {
  const bytes = new Uint8Array(pemBytesMax + 1);
  let length = 0;
  try {
    const fd = openSync(path, "r");
    try {
      for (;;) {
        const count = readSync(fd, bytes, length, bytes.byteLength - length, null);
        length += count;
        if (count === 0 || length === bytes.byteLength) break;
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return { error: `${field}: cannot read ${path}: ${causeOf(error)}; correct the path or its permissions` };
  }
  if (length > pemBytesMax) return { error: `${field}: ${path} is too long for a PEM file` };
  return new TextDecoder().decode(bytes.subarray(0, length));
}

function validityWarnings(path: string, certificates: readonly X509Certificate[], nowMs: number): string[] {
  const warnings: string[] = [];
  for (const { subject, validFrom, validTo } of certificates) {
    const name = subject.replaceAll("\n", ", ");
    if (Date.parse(validTo) < nowMs) warnings.push(`${path}: the certificate of ${name} has expired on ${validTo}`);
    if (Date.parse(validFrom) > nowMs) warnings.push(`${path}: the certificate of ${name} begins only on ${validFrom}`);
  }
  return warnings;
}

/** CHAP secrets as they are given in files: what may be one, whoever reads the file. */

/** RFC 7143 9.2.1: shorter than 96 bits is not safe without IPsec; longer than 255 bytes no initiator takes. */
export const chapSecretBytes = { min: 12, max: 255 } as const;

/** The secret in a file's text: one line, its end left out; or what is wrong with it, which never quotes it. */
export function chapSecretOf(text: string): { readonly secret: string } | { readonly fault: string } {
  const secret = text.replace(/\r?\n$/, "");
  if (/[\r\n\0]/.test(secret)) return { fault: "must hold one line, the secret" };
  const { length } = new TextEncoder().encode(secret);
  if (length < chapSecretBytes.min)
    return { fault: `holds ${length} bytes; a CHAP secret has at least ${chapSecretBytes.min}` };
  if (length > chapSecretBytes.max)
    return { fault: `holds ${length} bytes; a CHAP secret has at most ${chapSecretBytes.max}` };
  return { secret };
}

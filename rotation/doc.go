// Package rotation decides which credential is sent next when a server refuses
// one. It knows nothing of OAuth or of where credentials come from: package
// provider gives it candidates, a way to send one, and a function that tells a
// refusal from other errors.
//
// An [Engine] keeps, for each client and server, what was learned: which
// credentials have worked there, which were refused and until when they come
// last, a back-off while everything is refused, and a budget for credentials
// that never worked. [Engine.Status] shows it and [Engine.Reset] forgets it.
//
// The rules, in short; [Policy] has the numbers:
//
//   - The order is current, previous, staged. A refused credential comes last
//     for a while; it is never barred.
//   - After a refusal the source is asked past its cache: another value is next.
//     The same one, or the one that the server took last, is sent once more if
//     it has worked there before, because some servers refuse valid requests now
//     and then.
//   - A credential that has not worked at this server is sent by one caller at a
//     time; the others use one that has, or wait.
//   - When all were refused every caller gets that error at once, until one of
//     them tries each credential again, or the source has another value.
//   - An authorization code or refresh token tries the next credential for
//     itself, but starts no back-off: anyone can send a browser to a callback.
//
// State is per process. A [Memory] carries it over restarts, as HMACs of
// identities, never as values: [File] is one.
package rotation

// Passes requests on to the Worker, each with a signal: POST /cancel/<id> ends the one whose header x-call says <id>,
// as a client that disconnects does in production.
const cancellations = new Map();

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/cancel/")) {
      cancellations.get(pathname.slice("/cancel/".length))?.();
      return new Response("cancelled");
    }
    const id = request.headers.get("x-call");
    const controller = new AbortController();
    const { promise, resolve } = Promise.withResolvers(); // settled by another request, and acted upon by this one
    cancellations.set(id, resolve);
    promise.then(() => controller.abort());
    try {
      return await env.WORKER.fetch(new Request(request, { signal: controller.signal }));
    } catch (error) {
      return new Response(String(error), { status: 599 });
    } finally {
      cancellations.delete(id);
    }
  },
};

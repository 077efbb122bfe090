package cribble;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.lucene.analysis.Analyzer;

/**
 * The one door from Python: a request of bytes in, an answer of bytes out.
 *
 * <p>It is called by reflection, so that these classes can be loaded into a JVM that already runs (pyserini starts one without
 * them). Requests are an operation's name and its arguments in order, little-endian; byte strings are preceded by an int32
 * length. The answer starts with 0, or with 1 and a message. Indexers and searchers are known by number.
 */
public final class Bridge {
  private static final Map<Integer, BulkIndexer> INDEXERS = new ConcurrentHashMap<>();
  private static final Map<Integer, BulkSearcher> SEARCHERS = new ConcurrentHashMap<>();
  private static final AtomicInteger NEXT = new AtomicInteger();

  private Bridge() {}

  /** Never throws: an error of any kind becomes a message for Python. */
  public static ByteArrayOutputStream call(ByteArrayOutputStream request) {
    ByteArrayOutputStream answer = new ByteArrayOutputStream();
    try {
      byte[] result = run(ByteBuffer.wrap(request.toByteArray()).order(ByteOrder.LITTLE_ENDIAN));
      answer.write(0);
      answer.writeBytes(result);
    } catch (Throwable error) {
      answer.reset();
      answer.write(1);
      answer.writeBytes(error.toString().getBytes(StandardCharsets.UTF_8));
    }
    return answer;
  }

  private static byte[] run(ByteBuffer in) throws Exception {
    String operation = BulkSearcher.string(in);
    switch (operation) {
      case "ping":
        return number(0);
      case "analyzer.check": {
        BulkSearcher.terms(analyzer(BulkSearcher.string(in)), "word");
        return number(0);
      }
      case "indexer.open": {
        BulkIndexer indexer = new BulkIndexer(BulkSearcher.string(in), analyzer(BulkSearcher.string(in)));
        int handle = NEXT.incrementAndGet();
        INDEXERS.put(handle, indexer);
        return number(handle);
      }
      case "indexer.add":
        INDEXERS.get(in.getInt()).add(bytes(in));
        return number(0);
      case "indexer.finish": {
        int handle = in.getInt();
        int documents = INDEXERS.get(handle).finish();
        INDEXERS.remove(handle);
        return number(documents);
      }
      case "indexer.abort":
        INDEXERS.remove(in.getInt()).abort();
        return number(0);
      case "searcher.open": {
        BulkSearcher searcher = new BulkSearcher(bytes(in), analyzer(BulkSearcher.string(in)), bytes(in));
        int handle = NEXT.incrementAndGet();
        SEARCHERS.put(handle, searcher);
        return number(handle);
      }
      case "searcher.size":
        return number(SEARCHERS.get(in.getInt()).size());
      case "searcher.ids":
        return SEARCHERS.get(in.getInt()).ids(in.getInt(), in.getInt());
      case "searcher.analyze":
        return SEARCHERS.get(in.getInt()).analyze(bytes(in));
      case "searcher.search":
        return SEARCHERS.get(in.getInt()).search(
            bytes(in), in.getInt(), in.getFloat(), in.getFloat(), flag(in), bytes(in), flag(in), in.getInt());
      case "searcher.impacts":
        return SEARCHERS.get(in.getInt()).searchImpacts(bytes(in), in.getInt(), bytes(in), in.getInt());
      case "searcher.rm3":
        return SEARCHERS.get(in.getInt()).searchRm3(
            bytes(in), bytes(in), bytes(in), in.getInt(), in.getFloat(), flag(in),
            in.getInt(), in.getFloat(), in.getFloat(), bytes(in), in.getInt());
      case "searcher.close":
        SEARCHERS.remove(in.getInt()).close();
        return number(0);
      default:
        throw new IllegalArgumentException("no operation " + operation);
    }
  }

  /** Anserini's English analyzer has a factory and no constructor; Lucene's have a constructor. No name: none. */
  private static Analyzer analyzer(String name) throws Exception {
    if (name.isEmpty()) {
      return null;
    }
    Class<?> type = Class.forName(name);
    return (Analyzer)
        (name.endsWith(".DefaultEnglishAnalyzer")
            ? type.getMethod("newDefaultInstance").invoke(null)
            : type.getDeclaredConstructor().newInstance());
  }

  private static byte[] bytes(ByteBuffer in) {
    byte[] content = new byte[in.getInt()];
    in.get(content);
    return content;
  }

  private static boolean flag(ByteBuffer in) {
    return in.get() != 0;
  }

  private static byte[] number(int value) {
    return BulkSearcher.buffer(4).putInt(value).array();
  }
}

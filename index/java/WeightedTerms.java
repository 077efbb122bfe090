package cribble;

import java.nio.ByteBuffer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.analysis.tokenattributes.TermFrequencyAttribute;

/** A document's terms, each once, with its weight as the frequency. A term is the decimal number of its id. */
final class WeightedTerms extends TokenStream {
  private final CharTermAttribute term = addAttribute(CharTermAttribute.class);
  private final TermFrequencyAttribute frequency = addAttribute(TermFrequencyAttribute.class);
  private int[] terms;
  private int[] weights;
  private int next;

  /** Reads a count, as many ids and as many weights, all int32. */
  void read(ByteBuffer in) {
    int count = in.getInt();
    terms = ints(in, count);
    weights = ints(in, count);
  }

  static int[] ints(ByteBuffer in, int count) {
    int[] values = new int[count];
    in.asIntBuffer().get(values);
    in.position(in.position() + 4 * count);
    return values;
  }

  @Override
  public void reset() {
    next = 0;
  }

  @Override
  public boolean incrementToken() {
    if (next == terms.length) {
      return false;
    }
    clearAttributes();
    term.append(Integer.toString(terms[next]));
    frequency.setTermFrequency(weights[next]);
    next++;
    return true;
  }
}

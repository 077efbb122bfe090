package cribble;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Which of two documents with equal scores comes first: the place of each document's id among all, higher is better. */
final class IdOrder {
  private final int[] places;
  private final int[] documents;
  private final boolean reversed;

  private IdOrder(int[] places, int[] documents, boolean reversed) {
    this.places = places;
    this.documents = documents;
    this.reversed = reversed;
  }

  /** `ranks`: an int32 per document, the place of its id in ascending order. The highest id is preferred. */
  static IdOrder of(byte[] ranks) {
    int[] places = new int[ranks.length / 4];
    ByteBuffer.wrap(ranks).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer().get(places);
    int[] documents = new int[places.length];
    for (int document = 0; document < places.length; document++) {
      documents[places[document]] = document;
    }
    return new IdOrder(places, documents, false);
  }

  /** The same ids, the lowest preferred. */
  IdOrder reversed() {
    return new IdOrder(places, documents, !reversed);
  }

  int place(int document) {
    return reversed ? places.length - 1 - places[document] : places[document];
  }

  int document(int place) {
    return documents[reversed ? places.length - 1 - place : place];
  }
}

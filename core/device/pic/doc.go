// Package pic is the pair of 8259A interrupt controllers of a PC, with the edge/level control registers (ELCR) of
// later chip sets. Start at PIC. Source: Intel 8259A data sheet (231468-003); ELCR: 82371AB (PIIX4) data sheet,
// 4.2.4. ICW1's LTIM bit is ignored, as there; the 8080 call mode and buffered mode have no meaning here.
package pic

//! The two forms of an ECDSA signature: every way in which DER can be almost right.

use proptest::prelude::*;
use signkeep::jose::signature::{Error, from_der, to_der};
use signkeep::key::Curve;

const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

/// A tag, a length in its shortest form, a value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(value.len()).unwrap();
    let head = if len < 0x80 { vec![tag, len] } else { vec![tag, 0x81, len] };
    [&head, value].concat()
}

fn sequence(r: &[u8], s: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(2, r), tlv(2, s)].concat())
}

/// The largest positive number of full length whose top bit is clear.
fn plain(curve: Curve) -> Vec<u8> {
    let mut number = vec![0x5a; curve.coordinate_len()];
    number[0] = 0x01;
    number
}

fn refused_as_der(curve: Curve, der: &[u8]) {
    let refused = from_der(curve, der);
    assert!(matches!(refused, Err(Error::Der(_))), "{curve:?} {der:02x?}: {refused:?}");
}

#[test]
fn a_short_r_or_s_is_padded_to_full_length() {
    for curve in CURVES {
        let len = curve.coordinate_len();
        let fixed = from_der(curve, &sequence(&[1], &[0x7f, 2])).unwrap();
        let mut wanted = vec![0; 2 * len];
        wanted[len - 1] = 1;
        wanted[2 * len - 2] = 0x7f;
        wanted[2 * len - 1] = 2;
        assert_eq!(fixed, wanted);
        assert_eq!(to_der(curve, &fixed).unwrap(), sequence(&[1], &[0x7f, 2]));
    }
}

#[test]
fn a_high_bit_gets_a_zero_byte_in_der_and_loses_it_again() {
    for curve in CURVES {
        let fixed = vec![0xff; 2 * curve.coordinate_len()];
        let part = [vec![0], vec![0xff; curve.coordinate_len()]].concat();
        let der = to_der(curve, &fixed).unwrap();
        assert_eq!(der, sequence(&part, &part));
        assert_eq!(from_der(curve, &der).unwrap(), fixed);
    }
}

#[test]
fn zero_is_refused_in_both_forms() {
    for curve in CURVES {
        let len = curve.coordinate_len();
        for (der, part) in [(sequence(&[0], &[1]), "r"), (sequence(&[1], &[0]), "s")] {
            assert_eq!(from_der(curve, &der), Err(Error::Zero { part }));
        }
        let mut fixed = vec![0; 2 * len];
        assert_eq!(to_der(curve, &fixed), Err(Error::Zero { part: "r" }));
        fixed[0] = 1;
        assert_eq!(to_der(curve, &fixed), Err(Error::Zero { part: "s" }));
    }
}

#[test]
fn a_number_longer_than_the_curve_is_refused() {
    for curve in CURVES {
        let long = [vec![1], vec![0; curve.coordinate_len()]].concat();
        for (der, part) in [(sequence(&long, &[1]), "r"), (sequence(&[1], &long), "s")] {
            assert_eq!(
                from_der(curve, &der),
                Err(Error::TooLong {
                    part,
                    given: curve.coordinate_len() + 1,
                    at_most: curve.coordinate_len(),
                })
            );
        }
    }
}

#[test]
fn fixed_signatures_of_any_other_length_are_refused() {
    for curve in CURVES {
        let wanted = 2 * curve.coordinate_len();
        for given in [0, 1, wanted / 2, wanted - 1, wanted + 1, 2 * wanted] {
            assert_eq!(to_der(curve, &vec![1; given]), Err(Error::Length { given, wanted }));
        }
    }
}

#[test]
fn negative_numbers_are_refused() {
    for curve in CURVES {
        refused_as_der(curve, &sequence(&[0x80], &[1]));
        refused_as_der(curve, &sequence(&[1], &[0xff]));
        refused_as_der(curve, &sequence(&vec![0xff; curve.coordinate_len()], &[1]));
    }
}

#[test]
fn numbers_with_needless_leading_zeros_are_refused() {
    for curve in CURVES {
        refused_as_der(curve, &sequence(&[0, 1], &[1]));
        refused_as_der(curve, &sequence(&[1], &[0, 0, 0x80]));
        refused_as_der(curve, &sequence(&[0, 0], &[1]));
    }
}

#[test]
fn a_number_without_bytes_is_refused() {
    for curve in CURVES {
        refused_as_der(curve, &sequence(&[], &[1]));
        refused_as_der(curve, &sequence(&[1], &[]));
    }
}

#[test]
fn anything_after_the_end_is_refused() {
    for curve in CURVES {
        let good = sequence(&plain(curve), &plain(curve));
        assert!(from_der(curve, &good).is_ok());
        refused_as_der(curve, &[good.clone(), vec![0]].concat());
        refused_as_der(curve, &[good.clone(), good].concat());
        let inside = [tlv(2, &[1]), tlv(2, &[1]), tlv(2, &[1])].concat();
        refused_as_der(curve, &tlv(0x30, &inside));
        let inside = [tlv(2, &[1]), tlv(2, &[1]), vec![5, 0]].concat();
        refused_as_der(curve, &tlv(0x30, &inside));
    }
}

#[test]
fn lengths_that_are_not_in_their_shortest_form_are_refused() {
    for curve in CURVES {
        refused_as_der(curve, &[0x30, 0x81, 6, 2, 1, 1, 2, 1, 1]);
        refused_as_der(curve, &[0x30, 0x82, 0, 6, 2, 1, 1, 2, 1, 1]);
        refused_as_der(curve, &[0x30, 7, 2, 0x81, 1, 1, 2, 1, 1]);
    }
}

#[test]
fn indefinite_length_is_refused() {
    for curve in CURVES {
        refused_as_der(curve, &[0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0]);
    }
}

#[test]
fn other_tags_and_truncation_are_refused() {
    for curve in CURVES {
        let good = sequence(&plain(curve), &plain(curve));
        for end in 0..good.len() {
            refused_as_der(curve, &good[..end]);
        }
        refused_as_der(curve, &tlv(0x31, &[2, 1, 1, 2, 1, 1]));
        refused_as_der(curve, &tlv(0x30, &[2, 1, 1, 4, 1, 1]));
        refused_as_der(curve, &tlv(0x30, &[2, 1, 1]));
        refused_as_der(curve, &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}

fn curve_and_signature() -> impl Strategy<Value = (Curve, Vec<u8>)> {
    proptest::sample::select(&CURVES[..]).prop_flat_map(|curve| {
        let len = curve.coordinate_len();
        // Leading zeros of any number are as likely as none: that is where converters go wrong.
        let part = (proptest::collection::vec(any::<u8>(), len), 0..len).prop_map(
            move |(mut part, zeros)| {
                part[..zeros].fill(0);
                part[len - 1] |= 1;
                part
            },
        );
        (part.clone(), part).prop_map(move |(r, s)| (curve, [r, s].concat()))
    })
}

proptest! {
    #[test]
    fn every_signature_survives_the_way_to_der_and_back((curve, fixed) in curve_and_signature()) {
        let der = to_der(curve, &fixed).unwrap();
        prop_assert_eq!(from_der(curve, &der).unwrap(), fixed);
    }

    #[test]
    fn whatever_is_accepted_as_der_is_the_only_der_of_its_signature(
        (curve, fixed) in curve_and_signature(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut der = to_der(curve, &fixed).unwrap();
        let at = at.index(der.len());
        der[at] = byte;
        if let Ok(read) = from_der(curve, &der) {
            prop_assert_eq!(to_der(curve, &read).unwrap(), der);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        for curve in CURVES {
            let _ = from_der(curve, &bytes);
            let _ = to_der(curve, &bytes);
        }
    }
}

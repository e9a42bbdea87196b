//! The Merkle tree hash of RFC 6962 section 2.1 (and RFC 9162), computed leaf by leaf in memory
//! that grows only with the logarithm of their number.

use super::chain::Hash;
use sha2::{Digest as _, Sha256};

/// A tree that leaves are added to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The roots of the complete subtrees so far, the largest first, each with the number of its
    /// leaves: those numbers are the powers of two that sum up to the number of all leaves.
    subtrees: Vec<(u64, Hash)>,
    leaves: u64,
}

impl Tree {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        self.leaves += 1;
        let mut subtree = (1, hashed(0, leaf, &[]));
        while let Some((size, left)) = self.subtrees.pop_if(|(size, _)| *size == subtree.0) {
            subtree = (2 * size, node(left, subtree.1));
        }
        self.subtrees.push(subtree);
    }

    /// How many leaves it has.
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The root over all leaves so far; of none: the hash of nothing.
    pub fn root(&self) -> Hash {
        let roots = self.subtrees.iter().rev().map(|(_, root)| *root);
        roots.reduce(|right, left| node(left, right)).unwrap_or_else(|| Hash::of(&[]))
    }
}

fn node(left: Hash, right: Hash) -> Hash {
    hashed(1, left.as_bytes(), right.as_bytes())
}

fn hashed(kind: u8, first: &[u8], second: &[u8]) -> Hash {
    let hasher = Sha256::new().chain_update([kind]).chain_update(first).chain_update(second);
    Hash::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The leaves and roots by which implementations of Certificate Transparency test themselves.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        let mut tree = Tree::default();
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(tree.root().to_string(), nothing);
        for (leaf, root) in LEAVES.into_iter().zip(ROOTS) {
            tree.push(leaf);
            assert_eq!(tree.root().to_string(), root);
        }
        assert_eq!(tree.leaves(), 8);
    }

    /// RFC 6962 section 2.1, word for word.
    fn defined(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Hash::of(&[]),
            [leaf] => Hash::of(&[&[0], leaf.as_slice()].concat()),
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                let (left, right) = (defined(&leaves[..half]), defined(&leaves[half..]));
                Hash::of(&[&[1], left.as_bytes().as_slice(), right.as_bytes()].concat())
            }
        }
    }

    proptest! {
        #[test]
        fn leaf_by_leaf_gives_what_the_definition_gives(
            leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..70)
        ) {
            let mut tree = Tree::default();
            leaves.iter().for_each(|leaf| tree.push(leaf));
            prop_assert_eq!(tree.root(), defined(&leaves));
        }
    }
}

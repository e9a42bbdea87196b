//! What every store owes its callers. An engine gives a [`Bed`] and runs [`every_case`] on it; where
//! it differs, its bed says so.

mod books;
mod changes;
mod postgres;
mod record;
mod sqlite;

use signkeep::store::Store;
use std::future::Future;
use std::sync::Arc;

/// Where a store is tested.
pub(crate) trait Bed {
    /// Opens the store: the same one each time, once the one before is closed.
    fn open(&self) -> impl Future<Output = Arc<dyn Store>>;

    /// Runs a statement behind the store's back; says what the database said if it refused.
    fn raw(&self, sql: &str) -> impl Future<Output = Result<u64, String>>;

    /// What becomes of a text that is kept.
    fn kept(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// A test for every clause, each on a fresh `$bed::new()`.
macro_rules! every_case {
    ($bed:ident) => {
        super::clauses! { $bed:
            changes {
                a_fresh_store_is_empty
                every_state_and_every_time_in_it_comes_back
                every_algorithm_and_every_field_of_a_key_set_comes_back
                the_operations_of_a_key_set_go_through_one_after_the_other
                a_change_thought_out_on_an_older_revision_is_refused_whole
                of_two_changes_on_one_revision_exactly_one_wins
                a_name_is_used_once_even_after_deletion
                a_deleted_set_is_loaded_while_it_has_material
                a_public_key_is_registered_once
                what_no_operation_does_is_refused_and_changes_nothing
                two_new_keys_for_one_place_are_refused
                two_currents_or_two_nexts_are_impossible_even_behind_its_back
                what_is_not_in_an_enumeration_is_impossible_even_behind_its_back
                pages_of_keys_are_newest_first_without_gap_or_repetition
                revisions_rise_over_reopening_and_over_key_sets
                a_change_dropped_at_any_point_happens_whole_or_not_at_all
                a_key_that_is_destroyed_keeps_its_history
            }
            books {
                a_reservation_stays_until_its_key_is_published
                a_key_without_a_reservation_of_its_own_is_not_published
                abandoned_material_is_never_published
                published_material_cannot_be_abandoned
                wanted_material_cannot_be_forgotten
                material_that_nobody_reserved_can_be_abandoned_and_forgotten
                an_answer_is_kept_with_its_change
                an_answer_to_what_changed_nothing_is_kept_at_its_revision
                reservations_are_listed_by_key_set_the_oldest_first
                a_refused_pin_is_remembered_by_token_over_reopening
                a_closed_store_answers_unavailable
            }
            record {
                every_record_comes_back_as_it_was_chained
                changes_and_batches_make_one_chain_without_a_gap
                writers_at_once_make_one_chain
                a_batch_dropped_at_any_point_is_there_whole_or_not_at_all
                checkpoints_come_back_in_order_and_follow_each_other
                the_record_only_grows_even_behind_its_back
                a_change_goes_through_and_tells_when_somebody_else_wrote
                a_hash_that_is_none_stops_no_change
                what_does_not_fit_since_the_last_checkpoint_is_told_and_stops_nothing
                an_end_that_was_cut_off_below_its_checkpoint_is_told
                of_a_long_unsigned_record_only_the_end_is_looked_at
            }
        }
    };
}
use every_case;

macro_rules! clauses {
    ($bed:ident: $($room:ident { $($case:ident)* })*) => {$(
        mod $room {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let bed = super::$bed::new();
                    crate::contract::store::$room::$case(&bed).await;
                }
            )*
        }
    )*};
}
use clauses;

//! From a row to what it means.

use super::TableRow;
use super::fault::{Fault, name_of};
use crate::store::Kind;
use crate::store::row::{Impossible, Table};
use sqlx::FromRow;

/// What a row means, or which row of which table is impossible, and why.
pub(super) fn read<R, T>(row: &TableRow) -> Result<T, Fault>
where
    R: for<'r> FromRow<'r, TableRow> + Table,
    T: TryFrom<R, Error = Impossible>,
{
    let corrupt = |column: &str, why: String| {
        let name: String = name_of(row, R::KEY).chars().take(64).collect();
        Fault::new(
            Kind::Corrupt,
            format!("table {}, row {name:?}, column {column}: {why}", R::NAME),
        )
    };
    match R::from_row(row) {
        Ok(parsed) => T::try_from(parsed).map_err(|wrong| corrupt(wrong.column, wrong.why)),
        Err(sqlx::Error::ColumnDecode { index, .. }) => Err(corrupt(
            index.trim_matches('"'),
            "has a value of another type than it should".to_owned(),
        )),
        Err(other) => Err(corrupt("?", other.to_string())),
    }
}

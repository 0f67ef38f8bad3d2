//! `forebay token`.

use crate::connection::Columns;
use crate::flags::{Api, Confirm};
use crate::print::value;
use clap::{Args, Subcommand, ValueEnum};
use webui_client::Failure;
use webui_model::{Name, NewToken, Role, Token, TokenCreate};

/// What to do with tokens.
#[derive(Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: TokenAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum TokenAction {
    /// Make a token. Its secret is shown once.
    Create {
        /// Its name, for the audit log.
        name: Name,
        /// What its bearer may do.
        #[arg(long, value_enum)]
        role: RoleArg,
    },
    /// Show all tokens, without their secrets.
    List,
    /// Revoke a token: nobody gets in with it any more.
    Revoke {
        /// Its name.
        name: Name,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// What the bearer of a token may do.
#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Look at everything but tokens and the audit log.
    Viewer,
    /// Change volumes, snapshots, subsystems, hosts and jobs.
    Operator,
    /// Change everything.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Role {
        match role {
            RoleArg::Viewer => Role::Viewer,
            RoleArg::Operator => Role::Operator,
            RoleArg::Admin => Role::Admin,
        }
    }
}

/// `forebay token`.
pub fn run(args: TokenArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    match args.action {
        TokenAction::Create { name, role } => {
            let answer = c.create(&[&"tokens"], &TokenCreate { name, role: role.into() })?;
            c.print(&answer, |token: &NewToken| {
                crate::line!("{}", token.secret);
                crate::note!(
                    "forebay: This is token \"{}\" with the role {}. It is not shown again.",
                    token.name,
                    token.role
                );
            })
        }
        TokenAction::List => c.list(&[&"tokens"], &COLUMNS),
        TokenAction::Revoke { name, confirm } => {
            confirm.ask(&format!("Whoever uses token {name} is locked out."))?;
            c.delete(&[&"tokens", &name])?;
            c.say(format_args!("Token {name} is revoked."));
            Ok(())
        }
    }
}

const COLUMNS: Columns<'static, Token> = Columns {
    headings: &["token", "role", "made"],
    row: |t| vec![t.name.to_string(), t.role.to_string(), value::moment(t.created_at_ms)],
    none: "There are no tokens.",
};

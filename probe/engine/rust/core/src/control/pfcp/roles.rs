//! What a session's rules are for, which some messages leave to those before them.

use super::{add_end, push};
use crate::control::message::{BearerEnd, Change, Message, Role, Rule};

/// The roles of one session's tunnel ends by rule. An answer gives the ends that its request left to the
/// user plane to choose (the CH bit of TS 29.244 8.2.3), and an update may leave out the interface of a
/// forwarding rule (7.5.4.3): neither says the end's role again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles(Vec<(Rule, Role)>);

impl Roles {
    /// [`MAX_RULES`](crate::control::message::MAX_RULES) at most.
    pub(in crate::control) fn of(known: Vec<(Rule, Role)>) -> Self {
        Self(known)
    }

    pub(in crate::control) fn known(&self) -> &[(Rule, Role)] {
        &self.0
    }

    /// Learns from a message, then turns its [`Change::Moves`] into [`Change::Leads`] where the role is
    /// known: the ends stand in `bearers` from then on. To be called with each accepted message of a
    /// session, requests before their answers.
    pub fn settle(&mut self, message: &mut Message) {
        for at in 0..message.rules.len() {
            let rule = message.rules[at].rule;
            match message.rules[at].change {
                Change::Leads(BearerEnd { role, .. }) | Change::Awaits(role) => {
                    self.learn(rule, role);
                }
                Change::Moves(_) | Change::Ends => {}
            }
        }
        for at in 0..message.rules.len() {
            self.lead(message, at);
        }
    }

    fn learn(&mut self, rule: Rule, role: Role) {
        match self.0.iter_mut().find(|known| known.0 == rule) {
            Some(known) => known.1 = role,
            // A session with more rules than a message may have keeps the first.
            None => drop(push(&mut self.0, (rule, role))),
        }
    }

    fn lead(&self, message: &mut Message, at: usize) {
        let of_rule = message.rules[at].rule;
        let known = self.0.iter().find(|(rule, _)| *rule == of_rule);
        if let (Change::Moves(end), Some(&(_, role))) = (message.rules[at].change, known) {
            let end = BearerEnd { role, end };
            if add_end(message, end).is_ok() {
                message.rules[at].change = Change::Leads(end);
            }
        }
    }
}
